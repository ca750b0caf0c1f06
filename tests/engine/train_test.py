"""`train` does the same work under every strategy: 20 losses within 1e-5 of the one-rank run's, the same tokens, and
again the same bytes when it is repeated."""
import fcntl
import os
import pathlib
import pty
import shutil
import signal
import subprocess
import sys
import termios
import unittest

from engine_runs import ENGINE, PHASES, EngineCase, files_of, log_lines, losses

BAR = 1e-5  # relative; the bar of the engine
STRATEGIES = {
    "accumulation": ["--micro-batch", "1"],
    "uneven accumulation": ["--micro-batch", "3"],
    "checkpointed activations": ["--micro-batch", "4", "--checkpoint-activations"],
    "split": ["--micro-batch", "4", "--strategy", "split:2"],
    "ddp2": ["--micro-batch", "1", "--strategy", "ddp", "--ranks", "2"],
    "ddp2, checkpointed": ["--micro-batch", "2", "--strategy", "ddp", "--ranks", "2", "--checkpoint-activations"],
    "ddp2, shares 3:1": ["--micro-batch", "1", "--strategy", "ddp", "--ranks", "2", "--shares", "3,1"],
    "fsdp2": ["--micro-batch", "1", "--strategy", "fsdp", "--ranks", "2"],
    "fsdp2, shares 3:1": ["--micro-batch", "1", "--strategy", "fsdp", "--ranks", "2", "--shares", "3,1"],
    "tp2": ["--micro-batch", "4", "--strategy", "tp", "--ranks", "2"],
    "pp2 gpipe": ["--micro-batch", "1", "--strategy", "pp", "--ranks", "2", "--pipeline", "gpipe"],
    "pp2 1f1b": ["--micro-batch", "1", "--strategy", "pp", "--ranks", "2", "--pipeline", "1f1b"],
    "ddp2 x tp2": ["--micro-batch", "2", "--strategy", "ddp:2,tp:2", "--ranks", "4"],
    "ddp2 x pp2": ["--micro-batch", "1", "--strategy", "ddp:2,pp:2", "--ranks", "4"],
}
WORK = ["--steps", "20", "--seq", "32", "--global-batch", "4", "--lr", "1e-3", "--warmup", "2", "--threads", "1"]
METHODS = {
    "full": ["--method", "full"],
    "lora": ["--method", "lora", "--lora-targets", "all-linear", "--lora-dropout", "0.1", "--seed", "7"],
    "qlora": ["--method", "qlora", "--lora-targets", "q_proj,down_proj"],
}


class Train(EngineCase):
    def check_steps(self, steps, single, what):
        self.assertEqual([s["step"] for s in steps], list(range(1, 21)), what)
        for key in ("token_hash", "tokens", "predicted_tokens", "lr", "epoch"):
            self.assertEqual([s[key] for s in steps], [s[key] for s in single], f"{what}: {key}")
        for step in steps:
            self.assertAlmostEqual(sum(step[phase] for phase in PHASES), step["step_time_s"], delta=1e-9 * 20, msg=what)
            self.assertGreaterEqual(min(step[phase] for phase in PHASES), 0, what)
            self.assertGreater(step["peak_memory_bytes"], 1 << 20, what)
        norms = self.assert_close([s["grad_norm"] for s in steps], [s["grad_norm"] for s in single], 1e-3, what)
        worst = self.assert_close(losses(steps), losses(single), BAR, what)
        print(f"{what}: losses {worst:.1e}, gradient norms {norms:.1e}")

    def check_method(self, method, strategies, model=None):
        flags = [*WORK, *METHODS[method]]
        name = f"{method}-{(model or self.model()).name}"
        single = self.train(self.new(f"{name}-single"), *flags, "--micro-batch", "4", model=model)
        if method == "full":
            self.assertLess(losses(single)[-1], losses(single)[0])
        runs = {}
        for strategy in strategies:
            with self.subTest(method=method, strategy=strategy):
                runs[strategy] = self.train(self.new(f"{name}-{strategy}"), *flags, *STRATEGIES[strategy], model=model)
                self.check_steps(runs[strategy], single, f"{name} {strategy}")
        if "pp2 gpipe" in runs and "pp2 1f1b" in runs:
            self.assertEqual(losses(runs["pp2 gpipe"]), losses(runs["pp2 1f1b"]))
            ends = [files_of(self.folder / f"{name}-{s}" / "checkpoint-20") for s in ("pp2 gpipe", "pp2 1f1b")]
            self.assertEqual(*ends)

    def test_full(self):
        self.check_method("full", STRATEGIES)

    def test_lora_with_dropout(self):
        self.check_method("lora", STRATEGIES)

    def test_qlora(self):
        self.check_method("qlora", ["accumulation", "ddp2", "fsdp2", "tp2", "pp2 1f1b"],
                          self.model("llama", "--hidden", "128", "--intermediate", "256"))  # so that tp parts blocks of 64 whole

    def test_tied_and_learnt_positions(self):
        self.check_method("full", ["fsdp2", "tp2", "pp2 1f1b"], self.model("gpt2"))
        self.check_method("full", ["ddp2", "tp2", "pp2 1f1b"], self.model("qwen3", "--tie"))

    def test_a_repeat_is_the_same_to_the_bit(self):
        for strategy in ("single", "ddp2", "fsdp2", "tp2", "pp2 1f1b"):
            with self.subTest(strategy):
                flags = STRATEGIES.get(strategy, ["--micro-batch", "2"])
                outs = [self.new(f"repeat-{strategy}-{i}") for i in (0, 1)]
                first, second = (self.train(out, *WORK, *METHODS["lora"], "--shuffle", "5", *flags) for out in outs)
                for key in ("loss", "grad_norm", "token_hash"):
                    self.assertEqual([s[key] for s in first], [s[key] for s in second], key)
                self.assertEqual(*(files_of(out / "checkpoint-20") for out in outs))

    def test_another_order_is_other_work(self):
        plain, shuffled = (self.train(self.new(f"order-{bool(f)}"), *WORK, "--steps", "2", *f) for f in ([], ["--shuffle", "1"]))
        self.assertNotEqual([s["token_hash"] for s in plain], [s["token_hash"] for s in shuffled])

    def test_packings(self):
        for pack in ("documents", "none"):
            flags = [*WORK, "--steps", "3", "--pack", pack, "--method", "full"]
            single = self.train(self.new(f"pack-{pack}"), *flags, "--micro-batch", "4")
            for strategy in ("accumulation", "ddp2", "pp2 1f1b"):
                steps = self.train(self.new(f"pack-{pack}-{strategy}"), *flags, *STRATEGIES[strategy])
                self.assert_close(losses(steps), losses(single), BAR, f"{pack} {strategy}")

    def test_what_a_run_leaves_and_prints(self):
        out = self.new("leaves")
        steps = self.train(out, *WORK, "--steps", "4", "--save-every", "2", "--strategy", "ddp", "--ranks", "2")
        self.assertEqual(sorted(path.name for path in out.iterdir()),
                         ["checkpoint-2", "checkpoint-4", "log.jsonl", "log.rank1.jsonl"])
        self.assertEqual(self.last.stdout, (out / "log.jsonl").read_text())
        self.assertEqual([line.get("kind", "step") for line in log_lines(out / "log.jsonl")],
                         ["step", "step", "checkpoint_saved", "step", "step", "checkpoint_saved"])
        other = log_lines(out / "log.rank1.jsonl")
        self.assertEqual(losses(other), losses(steps))
        self.assertEqual(sorted(path.name for path in (out / "checkpoint-4").iterdir()),
                         ["adapter_config.json", "adapter_model.safetensors", "manifest.json", "optimizer.safetensors",
                          "trainer.json"])

    def test_an_interrupt_ends_the_line_of_the_bar(self):
        for ranks in ([], ["--strategy", "ddp", "--ranks", "2"]):
            with self.subTest(ranks=ranks):
                status, seen = self.interrupted("--model", self.model(), "--data", self.text, "--steps", "100000", "--seq", "32",
                                                "--out", self.new(f"interrupted-{len(ranks)}"), *ranks)
                self.assertEqual(status, 130 if ranks else -signal.SIGINT)
                self.assertTrue(seen.endswith("\n"), seen[-200:])
                self.assertRegex(seen.rstrip("\r\n^C").rpartition("\r")[2], r"loss \d")

    def interrupted(self, *flags):
        """Status and screen of a training at a terminal that Ctrl-C ends at its third step or later."""
        ours, its = pty.openpty()
        process = subprocess.Popen([ENGINE, "train", *map(str, flags)], stdin=its, stdout=its, stderr=its, start_new_session=True,
                                   preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
                                   env={**os.environ, "OMP_NUM_THREADS": "1"})
        os.close(its)
        seen, sent = b"", False
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # nobody has the other end any more
                break
            if not part:
                break
            seen += part
            if not sent and b" 3/100000 " in seen:
                os.write(ours, b"\x03")
                sent = True
        os.close(ours)
        return process.wait(timeout=60), seen.decode()

    def test_under_torchrun(self):
        beside = pathlib.Path(sys.executable).parent / "torchrun"  # a system may have an older one
        torchrun = str(beside) if beside.exists() else shutil.which("torchrun") or ""
        if not os.access(torchrun, os.X_OK):
            self.skipTest(f"no torchrun beside {sys.executable}")
        flags = [*WORK, "--steps", "3", "--strategy", "ddp", "--micro-batch", "2"]
        ours = self.train(self.new("launched"), *flags, "--ranks", "2")
        theirs = self.train(self.new("torchrun"), *flags,
                            command=[torchrun, "--no-python", "--nproc_per_node", "2", "--rdzv_backend", "c10d",
                                     "--rdzv_endpoint", "localhost:0"])
        self.assertEqual(losses(ours), losses(theirs))


if __name__ == "__main__":
    unittest.main(verbosity=2)
