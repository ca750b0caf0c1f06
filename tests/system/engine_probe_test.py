"""rigwise probe on the real engine and a tiny made model: what it measures, refuses and leaves behind."""
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

RIGWISE = os.environ["RIGWISE"]
ENGINE = pathlib.Path(os.environ["RIGWISE_BUILD"]) / "rigwise-engine"


def call(folder, *argv):
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=240,
                          env={**os.environ, "RIGWISE_RUNS": str(folder / "runs")}, stdin=subprocess.DEVNULL)


class ProbeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="rigwise-probe-")
        cls.folder = pathlib.Path(cls.temporary.name)
        # three key-value heads, which two ranks cannot share
        made = call(cls.folder, ENGINE, "make-model", "--out", "model", "--hidden", "48", "--layers", "2", "--heads", "6",
                    "--kv-heads", "3", "--vocab", "300", "--max-seq", "64")
        assert made.returncode == 0, made.stderr
        cls.done = call(cls.folder, RIGWISE, "probe", "--json", "--model", "model", "--device", "cpu", "--ranks", "2",
                        "--strategies", "single,ddp,tp", "--steps", "12", "--repeats", "2", "--seq", "32",
                        "--global-batch", "4", "--name", "tiny")
        cls.document = json.loads(cls.done.stdout) if cls.done.stdout else None

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def row(self, strategy):
        return next(row for row in self.document["strategies"] if row["strategy"] == strategy)

    def test_measures_what_fits(self):
        self.assertEqual(self.done.returncode, 0, self.done.stderr)
        self.assertEqual(self.document["order"], ["single", "ddp", "ddp", "single"])
        for strategy, ranks in (("single", 1), ("ddp", 2)):
            row = self.row(strategy)
            self.assertEqual((row["state"], row["ranks"], len(row["runs"])), ("measured", ranks, 2))
            self.assertGreater(row["tokens_per_s"], 0)
            self.assertGreater(row["peak_memory_bytes"], 1 << 20)
            self.assertLess(row["loss_difference_frac"], 1e-4)
        self.assertIn(self.row("ddp")["verdict"], ("faster", "slower", "equivalent", "inconclusive"))
        self.assertEqual(self.row("single")["loss_difference_frac"], 0)
        self.assertEqual(self.document["tokens_a_step"], 4 * 32)

    def test_says_why_one_does_not_fit(self):
        row = self.row("tp")
        self.assertEqual(row["state"], "does_not_fit")
        self.assertEqual(row["why"], "tp:2 does not divide the model's 3 key-value heads")
        self.assertEqual(row["runs"], [])

    def test_judges_plans_order(self):
        self.assertEqual(sorted(self.document["predicted_order"]), ["ddp", "single"], self.document.get("not_predicted"))
        judged = self.document["order_judged"]
        self.assertEqual(judged["first"], self.document["predicted_order"][0])
        self.assertGreaterEqual(judged["regret_frac"], 0)
        self.assertIn(judged["kendall_tau"], (-1, 1))
        self.assertGreater(self.row("ddp")["predicted_factor"], 0)
        self.assertNotIn("predicted_factor", self.row("tp"))

    def test_plans_from_a_run_and_the_link(self):
        linked = call(self.folder, RIGWISE, "plan", "--json", "--from", "tiny-single", "--add", "rtx3090 @ measured", "--link",
                      "runs/probes/tiny/link.json")
        self.assertEqual(linked.returncode, 0, linked.stderr)
        strategies = json.loads(linked.stdout)["strategies"]
        steps = [one["step"]["value_s"] for one in strategies if "step" in one]
        self.assertEqual(steps, sorted(steps))
        self.assertEqual({one["strategy"] for one in strategies}, {"single", "ddp", "fsdp", "tp", "pp"})
        tensor = next(one for one in strategies if one["strategy"] == "tp")
        self.assertIn("does not divide the 3 key-value heads", tensor["refused"])
        self.assertFalse(any(one["assumed"] for one in strategies if "step" in one))

    def test_says_beforehand_how_long_it_takes(self):
        self.assertRegex(self.done.stderr, r"4 runs of 12 steps will take about ")
        self.assertRegex(self.done.stderr, r"run 4 of 4: single")

    def test_runs_are_ordinary_ones(self):
        runs = json.loads(call(self.folder, RIGWISE, "runs", "--json").stdout)["runs"]
        self.assertEqual([run["name"] for run in runs], ["tiny-single", "tiny-ddp", "tiny-ddp", "tiny-single"])
        self.assertTrue(all(run["exit_status"] == 0 for run in runs))
        self.assertEqual(runs[1]["ranks_asked"], 2)
        compared = json.loads(call(self.folder, RIGWISE, "compare", "tiny-single", "--", "tiny-ddp", "--json").stdout)
        self.assertNotEqual(compared["verdict"], "not_comparable")
        decided = call(self.folder, RIGWISE, "decide", "--lab", "runs/probes/tiny/lab.toml")
        self.assertEqual(decided.returncode, 0, decided.stderr)

    def test_weights_are_not_kept(self):
        self.assertEqual(list(self.folder.glob("runs/probes/tiny/**/*.safetensors")), [])
        self.assertEqual(len(list(self.folder.glob("runs/probes/tiny/out/*/log.jsonl"))), 4)

    def test_name_is_taken(self):
        again = call(self.folder, RIGWISE, "probe", "--model", "model", "--device", "cpu", "--name", "tiny")
        self.assertEqual(again.returncode, 2)
        self.assertIn("there is an experiment 'tiny' already", again.stderr)

    def test_too_long_is_refused_before_the_first_run(self):
        late = call(self.folder, RIGWISE, "probe", "--model", "model", "--device", "cpu", "--name", "long",
                    "--strategies", "ddp", "--steps", "100000", "--seq", "32", "--limit", "30s")
        self.assertEqual(late.returncode, 2)
        self.assertIn("more than --limit 30", late.stderr)
        self.assertEqual(call(self.folder, RIGWISE, "runs", "show", "long-single").returncode, 10)


if __name__ == "__main__":
    unittest.main()
