"""Tests of the report's arithmetic: `python3 -m unittest discover bench`."""

import unittest

import report

ONE = {"model": "resnet18", "mode": "infer", "batch": 1, "precision": "f32", "quick": True}
SIXTEEN = {"model": "resnet18", "mode": "infer", "batch": 16, "precision": "f32"}


def entry(work, who, variant, *rates, **more):
    """A measurement a round."""
    rounds = enumerate(rates, 1)
    about = {"work": work, "who": who, "variant": variant, "peak_memory_bytes": 1 << 20}
    return [about | {"round": r, "images_per_second": rate} | more for r, rate in rounds]


class Summary(unittest.TestCase):
    def test_the_best_variant_counts_by_its_median(self):
        measured = entry(ONE, "resnet", "", 10, 30, 20)
        measured += entry(ONE, "pytorch", "a", 8, 9, 50) + entry(ONE, "pytorch", "b", 10, 10, 10)
        found = report.summary(ONE, measured)
        self.assertEqual(found["ours"]["images_per_second"], 20)
        self.assertEqual(found["peers"]["pytorch"]["variant"], "b")
        self.assertEqual(found["ratio"], {"median": 2, "least": 1, "most": 3})

    def test_a_peer_may_take_a_batch_one_by_one_but_we_may_not(self):
        measured = entry(ONE, "resnet", "", 90) + entry(SIXTEEN, "resnet", "", 30)
        measured += entry(ONE, "openvino", "latency", 60) + entry(SIXTEEN, "openvino", "latency", 40)
        found = report.summary(SIXTEEN, measured)
        self.assertEqual(found["peers"]["openvino"]["variant"], "16 x batch 1, latency")
        self.assertEqual(found["ratio"]["median"], 0.5)
        self.assertEqual(report.summary(ONE, measured)["ratio"]["median"], 1.5)

    def test_rounds_that_a_peer_did_not_run_do_not_enter_the_ratio(self):
        measured = entry(ONE, "resnet", "", 10, 40) + entry(ONE, "rten", "p", 5)
        self.assertEqual(report.summary(ONE, measured)["ratio"], {"median": 2, "least": 2, "most": 2})

    def test_a_failure_is_named_and_does_not_count(self):
        failed = {"work": ONE, "who": "rten", "variant": "p", "round": 1, "error": "status 1: no"}
        content = report.summarise([ONE], entry(ONE, "resnet", "", 10) + [failed])
        self.assertIsNone(content["works"][0]["ratio"])
        what = "resnet18 infer, batch 1, f32 rten p"
        self.assertEqual(content["failed"], [{"what": what, "error": "status 1: no"}])


if __name__ == "__main__":
    unittest.main()
