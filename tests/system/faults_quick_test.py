"""Two short trainings, one with a slow read planted and one healthy: the ledger names the right bottleneck and sums to the wall.

The whole table with its bars is ./dev bench attribution. Needs a Python with torch (RIGWISE_PYTHON, or .venv), else skipped.
"""
import argparse
import os
import pathlib
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests/faults"))

import run as faults  # noqa: E402
import scenarios  # noqa: E402

SHORT = [
    scenarios.Scenario("quick.read", scenarios.PLAIN + ["--iters", "100", "--read-s", "0.06"], "read", 3, ("input",)),
    scenarios.Scenario("quick.healthy", scenarios.LOADER + ["--steps", "120", "--style", "bar"], "healthy"),
]


def python_with_torch():
    for python in (os.environ.get("RIGWISE_PYTHON"), str(SOURCE / ".venv/bin/python"), sys.executable):
        if python and os.path.exists(python) and faults.has_modules(python, "torch"):
            return python
    return None


class Quick(unittest.TestCase):
    def test_ledger_against_the_stopwatch(self):
        python = python_with_torch()
        if python is None:
            self.skipTest("no Python with torch (RIGWISE_PYTHON)")
        with tempfile.TemporaryDirectory() as folder:
            options = argparse.Namespace(rigwise=pathlib.Path(os.environ["RIGWISE"]), engine=None, work=pathlib.Path(folder),
                                         autogroup=None, python=python)
            for scenario in SHORT:
                with self.subTest(scenario.name):
                    result = faults.run(scenario, options)
                    faults.show(result)
                    self.assertTrue(result["sum_ok"], result["sum_error_s"])
                    self.assertIn(result["named"], result["right"])
                    if result["rows"]["host"]["truth_s"] > 0.15 * result["wall_s"]:
                        continue  # the machine took so much that rows are blurred; the bars are for a machine of one's own
                    for cls in scenario.planted:  # wider than the bar all the same
                        row = result["rows"][cls]
                        self.assertTrue(row["known"], cls)
                        self.assertTrue(row["inside"] or abs(row["error_s"]) <= 0.25 * row["truth_s"], row)


if __name__ == "__main__":
    unittest.main()
