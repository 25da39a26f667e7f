"""Tests of processes in turns: `python3 -m unittest discover bench`."""

import os
import pathlib
import sys
import time
import unittest

from contestant import Contestant

WORK = {"model": "resnet18", "mode": "infer", "batch": 1, "precision": "f32"}
ANSWERS = """
import sys
for number, line in enumerate(sys.stdin, 1):
    print("something else")
    print('{"images_per_second": %d}' % number, flush=True)
    if number == 2:
        sys.exit("the third is too much")
"""


def contestant(program):
    return Contestant(WORK, "peer", "variant", [sys.executable, "-c", program], dict(os.environ))


class Turns(unittest.TestCase):
    def setUp(self):
        self.peer = contestant(ANSWERS)
        self.peer.start()
        self.addCleanup(self.peer.end)

    def state(self):
        status = pathlib.Path(f"/proc/{self.peer.process.pid}/stat")
        return status.read_text().rsplit(")", 1)[1].split()[0]

    def test_a_line_is_a_turn_and_what_is_no_result_is_passed_over(self):
        self.assertEqual(self.peer.turn(), {"images_per_second": 1})
        self.assertEqual(self.peer.turn(), {"images_per_second": 2})
        self.assertEqual(self.peer.rates, [1, 2])

    @unittest.skipUnless(sys.platform == "linux", "reads /proc")
    def test_between_turns_it_stands_still(self):
        self.peer.turn()
        time.sleep(0.1)
        self.assertEqual(self.state(), "T")

    def test_one_that_ends_is_a_failure_with_its_last_words(self):
        self.peer.turn(), self.peer.turn()
        self.assertEqual(self.peer.turn(), {"error": "status 1: the third is too much"})
        self.assertTrue(self.peer.ended)

    def test_it_ends_when_told_though_it_stands_still(self):
        self.peer.turn()
        self.peer.end()
        self.assertEqual(self.peer.process.returncode, 0)


if __name__ == "__main__":
    unittest.main()
