"""A process that takes turns with others, and stands still meanwhile."""

import collections
import contextlib
import json
import os
import signal
import statistics
import subprocess
import tempfile
import threading

# A turn that takes longer is given up; before the first, torch.compile may take minutes.
LIMIT_SECONDS = 600


class Contestant:
    """One variant of a peer, or we, at one work."""

    def __init__(self, work, who, variant, words, variables):
        self.work, self.who, self.variant = work, who, variant
        # Whose variants compete with each other.
        self.peer = (work["batch"], who)
        self.words, self.variables = [str(word) for word in words], variables
        self.rates, self.ended = [], False

    def start(self):
        """Starts the process, in a group of its own: what it starts stands still with it."""
        self.stderr = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            self.words, env=self.variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr,
            text=True, start_new_session=True,
        )  # fmt: skip

    def turn(self):
        """What the process says to a line: a result, or an error, which ends it."""
        self.signal(signal.SIGCONT)
        late = threading.Timer(LIMIT_SECONDS, self.signal, [signal.SIGKILL])
        late.start()
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            line = next((line for line in self.process.stdout if line.startswith("{")), None)
        except BrokenPipeError:
            line = None
        late.cancel()
        if line is None:
            return {"error": self.failure()}
        self.signal(signal.SIGSTOP)
        result = json.loads(line)
        self.rates.append(result["images_per_second"])
        return result

    def rate(self):
        """Images a second: the median of its turns; nothing without any."""
        return statistics.median(self.rates) if self.rates else 0

    def failure(self):
        status = self.process.wait()
        self.stderr.seek(0)
        lines = collections.deque((line.strip() for line in self.stderr if line.strip()), maxlen=1000)
        self.end()
        if status == -signal.SIGKILL:
            return f"killed; a turn may take {LIMIT_SECONDS} s"
        # Ours says what is wrong first, Python last.
        wrong = next((line for line in lines if line.startswith("error:")), lines[-1] if lines else "no output")
        return f"status {status}: {wrong[:300]}"

    def end(self):
        """Ends the process: it finds its stdin closed."""
        if self.ended:
            return
        self.ended = True
        self.signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.process.wait()
        self.process.stdout.close()
        self.stderr.close()

    def signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
