"""The measuring rod itself: tests/faults counts and scores right. No training is run and no torch needed."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

FAULTS = pathlib.Path(__file__).resolve().parents[1] / "faults"
sys.path.insert(0, str(FAULTS))

import inject  # noqa: E402
import scenarios  # noqa: E402
import truth  # noqa: E402


def rank(number, steps, after=None, written=None):
    """A stopwatch's report by hand: steps as (end, {class: (wall, late, ran)})."""
    return {"rank": number, "pid": 100 + number, "steps": [[end, {c: list(v) for c, v in rows.items()}] for end, rows in steps],
            "after_steps": {c: list(v) for c, v in (after or {}).items()}, "written": written or steps[-1][0]}


class Rows(unittest.TestCase):
    def check(self, rows, wall_s, **expected):
        self.assertAlmostEqual(sum(rows.values()), wall_s, 6)
        for cls, seconds in expected.items():
            self.assertAlmostEqual(rows.get(cls, 0.0), seconds, 6, cls)

    def test_one_rank(self):
        steps = [(1003.0, {"startup": (2, 0, 2), "input": (0.25, 0, 0), "compute": (0.75, 0.1, 0.65)}),
                 (1005.0, {"input": (0.5, 0.2, 0.1), "compute": (1.0, 0.25, 0.75), "checkpoint": (0.5, 0.1, 0.1)})]
        rows, _ = truth.true_rows([rank(0, steps, {"teardown": (0.5, 0, 0)}, 1005.5)], {}, 6.0, 1000.0)
        self.check(rows, 6.0, startup=2, input=0.75, compute=1.4, host=0.35, checkpoint=0.5, teardown=1.0)

    def test_stopped_inside_arithmetic_is_host(self):
        steps = [(1001.0, {"compute": (1, 0, 1)}), (1004.0, {"compute": (3, 0.1, 0.9)})]
        rows, _ = truth.true_rows([rank(0, steps)], {"stops": [[1001.5, 1003.5]], "stopped_rank": 0}, 4.0, 1000.0)
        self.check(rows, 4.0, host=2.1, compute=1.9)

    def test_stopped_while_it_waits_is_host_too(self):
        stopped = rank(1, [(1004.0, {"compute": (1, 0, 1), "sync": (3, 0, 0)})])
        stopped["line"] = [[1001.0, "compute"], [1004.0, "sync"]]
        waiting = rank(0, [(1004.0, {"compute": (1, 0, 1), "sync": (3, 0, 0)})])
        rows, _ = truth.true_rows([waiting, stopped], {"stops": [[1001.5, 1003.5]], "stopped_rank": 1}, 4.0, 1000.0)
        self.check(rows, 4.0, host=2.0, sync=1.0, compute=1.0)

    def test_a_stop_of_another_rank_is_not_its_own(self):
        steps = [(1001.0, {"compute": (1, 0, 1)})]
        rows, _ = truth.true_rows([rank(0, steps)], {"stops": [[1000.2, 1000.8]], "stopped_rank": 1}, 1.0, 1000.0)
        self.check(rows, 1.0, compute=1)

    def test_the_rank_that_waits_least_is_the_run(self):
        fast = [(1001.0, {"compute": (0.4, 0, 0.4), "sync": (0.6, 0, 0)}), (1002.0, {"compute": (0.4, 0, 0.4), "sync": (0.6, 0, 0)})]
        slow = [(1001.0, {"compute": (0.9, 0, 0.9), "sync": (0.1, 0, 0)}), (1002.0, {"compute": (0.8, 0, 0.8), "sync": (0.2, 0, 0)})]
        rows, each = truth.true_rows([rank(0, fast), rank(1, slow)], {}, 2.5, 1000.0)
        self.check(rows, 2.5, compute=1.7, sync=0.3, teardown=0.5)
        self.check(each[0], 2.5, compute=0.8, sync=1.2)

    def test_a_save_of_one_rank_is_the_run_s(self):
        saves = [(1002.0, {"checkpoint": (1.0, 0, 0), "compute": (0.9, 0, 0.9), "sync": (0.1, 0, 0)})]
        waits = [(1002.0, {"compute": (0.9, 0, 0.9), "sync": (1.1, 0, 0)})]
        rows, each = truth.true_rows([rank(0, saves), rank(1, waits)], {}, 2.0, 1000.0)
        self.check(rows, 2.0, checkpoint=1.0, sync=0.1, compute=0.9)
        self.check(each[1], 2.0, sync=1.1)

    def test_memory_is_what_the_arithmetic_slept(self):
        steps = [(1003.0, {"compute": (3, 0.5, 1.5)})]
        rows, _ = truth.true_rows([rank(0, steps)], {"memory_taken": True}, 3.0, 1000.0)
        self.check(rows, 3.0, memory=1.0, host=0.5, compute=1.5)

    def test_held_clocks_take_their_loss_of_the_arithmetic(self):
        steps = [(1004.0, {"compute": (4, 0, 4)})]
        rows, _ = truth.true_rows([rank(0, steps)], {"held": [[1001.0, 1003.0, 0.25]]}, 4.0, 1000.0)
        self.check(rows, 4.0, throttle=0.5, compute=3.5)


class Right(unittest.TestCase):
    def test_thresholds_are_the_documented_ones(self):
        limits = truth.thresholds()
        self.assertEqual(limits["input"], 0.10)
        self.assertEqual(limits["startup"], 0.50)

    def test_healthy(self):
        self.assertEqual(truth.expected_bottleneck({"compute": 95, "input": 5}, 100), ["compute"])

    def test_clear(self):
        self.assertEqual(truth.expected_bottleneck({"input": 30, "checkpoint": 15}, 100), ["input"])

    def test_near_the_threshold_both_are_right(self):
        self.assertEqual(truth.expected_bottleneck({"input": 11}, 100), ["compute", "input"])

    def test_near_ties(self):
        self.assertEqual(truth.expected_bottleneck({"input": 30, "host": 28}, 100), ["host", "input"])

    def test_large_start_below_its_own_threshold(self):
        self.assertEqual(truth.expected_bottleneck({"startup": 35, "input": 20}, 100), ["input"])

    def test_row(self):
        row = {"seconds": 10.0, "low_s": 8.0, "high_s": 11.0, "how": "measured"}
        found = truth.score_row(row, 8.5)
        self.assertTrue(found["inside"] and found["narrow"] and not found["within_tenth"])
        self.assertFalse(truth.score_row(None, 8.5)["known"])


class Table(unittest.TestCase):
    def test_five_severities_of_every_fault(self):
        table = scenarios.all_scenarios()
        for family in {s.family for s in table.values()} - {"healthy"}:
            self.assertEqual({s.severity for s in table.values() if s.family == family}, {1, 2, 3, 4, 5}, family)
            self.assertTrue(all(s.planted for s in table.values() if s.family == family), family)

    def test_every_hole_is_known(self):
        import re
        known = {"python", "here", "out", "slow", "model", "train", "held", "torchrun", "engine", "engine_model", "text", "netns0",
                 "netns1"}
        for scenario in scenarios.all_scenarios().values():
            self.assertLessEqual(set(re.findall(r"{(\w+)}", " ".join(scenario.argv))), known)


STOPWATCH = """
import sys, time
sys.path.insert(0, sys.argv[1])
from stopwatch import watch
time.sleep(0.02)
for _ in range(4):
    watch.now("input"); time.sleep(0.01)
    watch.now("compute"); sum(range(20000))
    with watch.planted("compute"): time.sleep(0.005)
    with watch.during("evaluation"):
        with watch.during("input"): time.sleep(0.01)
    watch.step_end()
watch.now("teardown")
with watch.during("checkpoint"): time.sleep(0.01)
"""


class Stopwatch(unittest.TestCase):
    def test_seconds_are_exclusive_and_whole(self):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.monotonic()
            subprocess.run([sys.executable, "-c", STOPWATCH, str(FAULTS / "workloads")], check=True,
                           env=dict(os.environ, RIGWISE_FAULT_TRUTH=folder))
            took = time.monotonic() - begin
            report = json.loads(pathlib.Path(folder, "rank0.json").read_text())
            self.assertTrue(pathlib.Path(folder, "rank0.began").exists())
        totals = {cls: values[0] for cls, values in report["totals"].items()}
        self.assertLessEqual(sum(totals.values()), took + 0.02)  # the process' start is known to 10 ms
        self.assertGreaterEqual(totals["evaluation"], 0.04)  # its loader's waits are its own
        self.assertGreaterEqual(totals["checkpoint"], 0.01)
        self.assertGreaterEqual(report["planted_s"]["compute"], 0.02)
        self.assertEqual(len(report["steps"]), 4)
        for cls, seconds in totals.items():
            in_steps = sum(step.get(cls, [0])[0] for _, step in report["steps"]) + report["after_steps"].get(cls, [0])[0]
            self.assertAlmostEqual(in_steps, seconds, 3, cls)


class SlowDisk(unittest.TestCase):
    def test_what_is_written_is_there(self):
        disk = inject.SlowDisk(2e6)
        if disk.lacks() or os.geteuid() != 0:
            self.skipTest(disk.lacks() or "mounting needs root here")
        with tempfile.TemporaryDirectory() as folder:
            with disk:
                disk.prepare(folder)
                data = os.urandom(300_000)
                path = disk.folder / "deep/file"
                path.parent.mkdir()
                path.write_bytes(data)
                path.rename(disk.folder / "moved")
                self.assertEqual((disk.folder / "moved").read_bytes(), data)
                self.assertEqual(os.listdir(disk.folder / "deep"), [])
            self.assertEqual(pathlib.Path(folder, "slow-behind/moved").read_bytes(), data)
            shutil.rmtree(pathlib.Path(folder, "slow"))


if __name__ == "__main__":
    unittest.main()
