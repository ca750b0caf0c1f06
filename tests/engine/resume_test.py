"""A run that goes on is the run that was never interrupted: bit for bit in the same layout, within 1e-6 in another one;
and it goes on from a whole checkpoint of the same work or not at all."""
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import unittest

from engine_runs import ENGINE, EngineCase, children_of, engine, files_of, log_lines, losses, merged, steps_of

LAYOUTS = {
    "single": ["--micro-batch", "4"],
    "ddp2": ["--micro-batch", "2", "--strategy", "ddp", "--ranks", "2"],
    "fsdp2": ["--micro-batch", "2", "--strategy", "fsdp", "--ranks", "2"],
    "tp2": ["--micro-batch", "4", "--strategy", "tp", "--ranks", "2"],
    "pp2": ["--micro-batch", "1", "--strategy", "pp", "--ranks", "2"],
}
WORK = ["--steps", "9", "--save-every", "3", "--seq", "32", "--global-batch", "4", "--lr", "2e-3", "--warmup", "2", "--shuffle", "3",
        "--threads", "1"]
METHODS = {
    "lora": ["--method", "lora", "--lora-targets", "all-linear", "--lora-dropout", "0.1"],
    "qlora": ["--method", "qlora"],
    "full": ["--method", "full"],
    "bf16": ["--method", "full", "--dtype", "bf16"],
}


class Resume(EngineCase):
    def whole(self, method, layout):
        """The run that nothing interrupts; made once."""
        out = self.folder / f"whole-{method}-{layout}"
        if not out.exists():
            self.train(out, *WORK, *METHODS[method], *LAYOUTS[layout])
        return out

    def interrupted(self, method, layout, name, step=3):
        """A copy of it as it was some time behind checkpoint-`step`, its last line torn."""
        whole, out = self.whole(method, layout), self.new(name)
        out.mkdir()
        shutil.copytree(whole / f"checkpoint-{step}", out / f"checkpoint-{step}")
        lines = (whole / "log.jsonl").read_text().splitlines(keepends=True)
        (out / "log.jsonl").write_text("".join(lines[:step + 3]) + lines[step + 3][:40])
        return out

    def check_log(self, out, whole):
        def kept(lines):
            return [{key: line.get(key) for key in ("step", "loss", "lr", "token_hash", "kind")} for line in lines]
        self.assertEqual(kept(log_lines(out / "log.jsonl")), kept(log_lines(whole / "log.jsonl")))

    def check_same_layout(self, method, layout):
        whole, out = self.whole(method, layout), self.interrupted(method, layout, f"on-{method}-{layout}")
        self.train(out, *WORK, *METHODS[method], *LAYOUTS[layout], "--resume", "auto")
        self.assertIn(f"going on from {out}/checkpoint-3 behind step 3", self.last.stderr)
        self.check_log(out, whole)
        for step in (6, 9):
            self.assertEqual(files_of(out / f"checkpoint-{step}"), files_of(whole / f"checkpoint-{step}"))

    def test_same_layout(self):
        for method, layout in [("lora", "single"), ("lora", "ddp2"), ("lora", "fsdp2"), ("lora", "tp2"), ("full", "ddp2"),
                               ("full", "fsdp2"), ("full", "pp2"), ("bf16", "single"), ("bf16", "fsdp2"), ("qlora", "single")]:
            with self.subTest(method=method, layout=layout):
                self.check_same_layout(method, layout)

    def test_resharded(self):
        for method, saved, loaded in [("full", "ddp2", "tp2"), ("full", "fsdp2", "single"), ("full", "single", "pp2"),
                                      ("lora", "ddp2", "tp2"), ("lora", "fsdp2", "single"), ("lora", "tp2", "fsdp2")]:
            with self.subTest(method=method, saved=saved, loaded=loaded):
                whole = self.whole(method, saved)
                out = self.interrupted(method, saved, f"reshard-{method}-{saved}-{loaded}")
                steps = self.train(out, *WORK, *METHODS[method], *LAYOUTS[loaded], "--resume", "auto")
                worst = self.assert_close(losses(steps), losses(steps_of(whole)), 1e-6)
                print(f"{method} {saved} -> {loaded}: {worst:.1e}")

    def test_from_a_folder_into_another_out(self):
        whole, out = self.whole("lora", "single"), self.new("elsewhere")
        self.train(out, *WORK, *METHODS["lora"], *LAYOUTS["single"], "--resume", whole / "checkpoint-6")
        self.assertEqual([s["step"] for s in steps_of(out)], [7, 8, 9])
        self.assertEqual(files_of(out / "checkpoint-9"), files_of(whole / "checkpoint-9"))

    def refuse(self, out, *flags, resume="auto", status=1):
        before = (out / "log.jsonl").read_bytes()
        ran = engine("train", *merged("--model", self.model(), "--data", self.text, "--out", out, *WORK, *METHODS["lora"],
                                      *LAYOUTS["single"], "--resume", resume, *flags))
        self.assertEqual(ran.returncode, status, ran.stderr)
        self.assertEqual((out / "log.jsonl").read_bytes(), before, "a refused run changes nothing")
        self.assertNotIn("Exception", ran.stderr)
        return ran.stderr

    def test_other_work_is_refused_with_what_differs(self):
        out = self.interrupted("lora", "single", "other")
        self.assertIn("the checkpoint is of other work: lr: 0.002 then, 0.005 now\n", self.refuse(out, "--lr", "5e-3", status=2))
        other = self.folder / "other.txt"
        other.write_text(self.text.read_text() * 2)
        self.assertRegex(self.refuse(out, "--data", other, status=2), r"other work: data: \w{16} then, \w{16} now\n")
        twin = self.model("llama", "--seed", "7")  # the same shapes, other weights
        self.assertRegex(self.refuse(out, "--model", twin, status=2), r"other work: model: \w{16} then, \w{16} now\n")
        self.assertIn("lora_rank: 8 then, 4 now", self.refuse(out, "--lora-rank", "4", "--lora-alpha", "16", status=2))
        several = self.refuse(out, "--seq", "16", "--clip", "2", "--steps", "10", status=2)
        for name in ("clip: 1 then, 2 now", "seq: 32 then, 16 now", "steps: 9 then, 10 now"):
            self.assertIn(name, several)

    def test_a_damaged_checkpoint_is_passed_over(self):
        whole = self.whole("lora", "single")
        for damage in ("cut", "flipped", "missing", "no manifest", "partial"):
            with self.subTest(damage):
                out = self.new(f"damaged-{damage}")
                shutil.copytree(whole, out)
                newest = out / "checkpoint-9"
                weights = newest / "adapter_model.safetensors"
                data = bytearray(weights.read_bytes())
                if damage == "cut":
                    weights.write_bytes(data[:-1])
                elif damage == "flipped":
                    data[-5] ^= 1
                    weights.write_bytes(data)
                elif damage == "missing":
                    (newest / "optimizer.safetensors").unlink()
                elif damage == "no manifest":
                    (newest / "manifest.json").unlink()
                else:
                    newest.rename(out / "checkpoint-9.partial")
                if damage in ("cut", "flipped"):
                    told = self.refuse(out, resume=newest)
                    self.assertIn(str(weights), told)
                    self.assertIn("resume from an earlier checkpoint", told)
                self.train(out, *WORK, *METHODS["lora"], *LAYOUTS["single"], "--resume", "auto")
                self.assertIn(f"going on from {out}/checkpoint-6 behind step 6", self.last.stderr)
                self.assertEqual(files_of(out / "checkpoint-9"), files_of(whole / "checkpoint-9"))

    def test_hostile_checkpoints(self):
        whole = self.whole("lora", "single")
        cases = {
            "trainer.json": [b"", b"{}", b"[1]", b'{"step": -1, "work": {}}', b'{"step": 1e300, "work": {}}', b"\xff" * 50],
            "manifest.json": [b"", b"[]", b'{"files": 3}', b'{"files": {"../../x": {"bytes": 1}}}', b'{"files": {"a": 3}}'],
        }
        for name, contents in cases.items():
            for i, content in enumerate(contents):
                out = self.new(f"hostile-{name}-{i}")
                out.mkdir()
                (out / "log.jsonl").write_text("")
                folder = out / "given"
                shutil.copytree(whole / "checkpoint-9", folder)
                (folder / name).write_bytes(content)
                if name == "trainer.json":  # with a manifest that fits, so that it is read at all
                    manifest = json.loads((folder / "manifest.json").read_text())
                    del manifest["files"][name]
                    (folder / "manifest.json").write_text(json.dumps(manifest))
                self.assertIn(name if content != b'{"files": {"../../x": {"bytes": 1}}}' else "x", self.refuse(out, resume=folder))

    def test_nothing_to_go_on_from(self):
        out = self.new("nothing")
        steps = self.train(out, *WORK, *METHODS["lora"], *LAYOUTS["single"], "--resume", "auto")
        self.assertEqual(losses(steps), losses(steps_of(self.whole("lora", "single"))))
        missing = self.refuse(out, resume=self.folder / "no-such")
        self.assertIn("no-such", missing)

    def test_a_killed_rank(self):
        seed = int(os.environ.get("KILL_SEED", random.randrange(1000)))
        chance = random.Random(seed)
        for strategy in ("ddp", "fsdp", "pp"):
            at, rank = chance.randrange(4, 20), chance.randrange(2)
            with self.subTest(strategy=strategy, seed=seed, at=at, rank=rank):
                out = self.new(f"killed-{strategy}")
                flags = [*WORK, *METHODS["lora"], "--schedule", "constant", "--micro-batch", "2", "--strategy", strategy,
                         "--ranks", "2", "--timeout", "20"]
                words = merged("--model", self.model(), "--data", self.text, "--out", out, *flags, "--steps", "100000")
                with subprocess.Popen([ENGINE, "train", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
                    for line in run.stdout:
                        if json.loads(line).get("step", 0) >= at:
                            break
                    children = children_of(run.pid)
                    self.assertEqual(len(children), 2)
                    victim = next(pid for pid in children
                                  if f"RANK={rank}\0" in pathlib.Path(f"/proc/{pid}/environ").read_text())
                    os.kill(victim, signal.SIGKILL)
                    run.stdout.read()
                    errors = run.stderr.read()
                    self.assertEqual(run.wait(timeout=60), 1, errors)
                for pid in children:
                    self.assertFalse(pathlib.Path(f"/proc/{pid}").exists(), "every rank has ended")
                self.assertIn(f"rank {rank} (pid {victim}) was killed by signal 9", errors)
                self.assertRegex(errors, rf"rank {rank} on {re.escape(socket.gethostname())}\b")
                self.assertNotIn("Exception", errors)
                newest = max(int(p.name.removeprefix("checkpoint-")) for p in out.glob("checkpoint-*") if p.suffix != ".partial")
                self.assertGreaterEqual(newest, at // 3 * 3 - 3)
                last = ["--steps", str(newest + 7)]
                on = self.train(out, *flags, *last, "--resume", "auto")
                self.assertIn(f"behind step {newest}", self.last.stderr)
                whole = self.train(self.new(f"unkilled-{strategy}"), *flags, *last, "--save-every", "0")
                self.assertEqual([s["step"] for s in on], list(range(1, newest + 8)))
                self.assertEqual(losses(on), losses(whole))


if __name__ == "__main__":
    unittest.main(verbosity=2)
