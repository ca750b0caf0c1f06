"""Checkpoints in parts: saved under one layout, gone on from under another, with the losses of the run that never
stopped; shards that are missing or were changed are refused."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ENGINE = os.environ["RIGWISE_ENGINE"]


class Shards(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        text = " ".join(f"the {n % 7} of {n * n % 31} and" for n in range(3000))
        (cls.folder / "text.txt").write_text(text)
        cls.engine("make-model", "--out", cls.folder / "model", "--hidden", 64, "--layers", 2, "--heads", 4, "--vocab",
                   300, "--tie")

    @classmethod
    def engine(cls, *words, fails=False):
        ran = subprocess.run([ENGINE, *map(str, words)], capture_output=True, text=True, timeout=120)
        if (ran.returncode != 0) != fails:
            raise AssertionError(f"{words}: exit {ran.returncode}\n{ran.stderr}")
        return ran

    def train(self, out, strategy, *words, method="full", fails=False):
        ranks = [] if strategy == "single" else ["--ranks", 2]
        ran = self.engine("train", "--model", self.folder / "model", "--data", self.folder / "text.txt", "--out",
                          self.folder / out, "--strategy", strategy, *ranks, "--method", method, "--seq", 32,
                          "--global-batch", 4, "--steps", 6, "--lr", "1e-3", *words, fails=fails)
        return ran if fails else self.losses(out)

    def losses(self, out):
        lines = map(json.loads, (self.folder / out / "log.jsonl").read_text().splitlines())
        return [line["loss"] for line in lines if "loss" in line]

    def test_any_layout_goes_on_from_any(self):
        for method in ("full", "lora"):
            straight = self.train(f"straight-{method}", "single", method=method)
            for saved, resumed in (("ddp", "tp"), ("fsdp", "single"), ("tp", "fsdp"), ("pp", "ddp"), ("single", "pp")):
                with self.subTest(method=method, saved=saved, resumed=resumed):
                    first, second = f"{method}-{saved}", f"{method}-{saved}-{resumed}"
                    self.train(first, saved, "--save-every", 3, "--save-in-parts", method=method)
                    self.assertTrue(list((self.folder / first / "checkpoint-3").glob("shard-*")))
                    self.assertFalse(list((self.folder / first / "checkpoint-6").glob("shard-*")))
                    (self.folder / second).mkdir()
                    shutil.copytree(self.folder / first / "checkpoint-3", self.folder / second / "checkpoint-3")
                    shutil.copy(self.folder / first / "log.jsonl", self.folder / second)
                    losses = self.train(second, resumed, "--resume", "auto", method=method)
                    self.assertEqual(len(losses), 6)
                    for ours, theirs in zip(losses, straight):
                        self.assertLessEqual(abs(ours - theirs) / theirs, 1e-6)

    def test_a_shard_that_is_gone_or_changed(self):
        self.train("broken", "ddp", "--save-every", 3, "--save-in-parts")
        folder = self.folder / "broken" / "checkpoint-3"
        shard = folder / "shard-0-of-2.safetensors"
        whole = shard.read_bytes()
        shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        ran = self.train("other", "single", "--resume", folder, fails=True)
        self.assertIn("its bytes changed since it was saved", ran.stderr)
        shard.unlink()
        ran = self.train("other", "single", "--resume", folder, fails=True)
        self.assertIn("shard-0-of-2.safetensors", ran.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
