"""What all Python peers share: arguments, the clock, and the line that each prints for each turn."""

import argparse
import json
import pathlib
import sys
import time

WARM_UP_SECONDS, WARM_UP_STEPS = 1.0, 2
# Shorter steps are timed in groups, so that the clock does not count.
GROUP_SECONDS = 0.002


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--mode", required=True, choices=["infer", "train"])
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--precision", required=True, choices=["f32", "bf16", "int8"])
    parser.add_argument("--variant", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--onnx", type=pathlib.Path)
    return parser.parse_args()


def size(model):
    """Rows and columns of a network's pictures, by its name: 6n+2 layers are CIFAR's."""
    depth = model.removeprefix("resnet")
    return 32 if depth in ("20", "32", "44", "56", "110", "1202") else 224


def warm_up(step):
    """Seconds of the last one of some steps that do not count."""
    begun, steps = time.perf_counter(), 0
    while steps < WARM_UP_STEPS or time.perf_counter() - begun < WARM_UP_SECONDS:
        last = time.perf_counter()
        step()
        last = time.perf_counter() - last
        steps += 1
    return last


def take_turns(step, options, images, **more):
    """After a warm-up, for every line that stdin sends: times steps of so many images, and prints a line
    of JSON. The rate is that of the median step, as in `resnet bench --turns`."""
    group = max(1, int(GROUP_SECONDS / warm_up(step)))
    for _ in sys.stdin:
        # Others have used the caches meanwhile.
        step()
        times, begun = [], time.perf_counter()
        while not times or time.perf_counter() - begun < options.seconds:
            start = time.perf_counter()
            for _ in range(group):
                step()
            times.append((time.perf_counter() - start) / group)
        report(sorted(times), images, **more)


def peak_memory_bytes():
    """The largest resident size of this process so far; None where the system does not tell."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def report(times, images, **more):
    at = lambda share: times[round((len(times) - 1) * share)]
    result = {
        "images_per_second": images / at(0.5),
        "seconds_p10": at(0.1),
        "seconds_p50": at(0.5),
        "seconds_p90": at(0.9),
        "steps": len(times),
        "peak_memory_bytes": peak_memory_bytes(),
    }
    print(json.dumps(result | more), flush=True)
