"""The engine on a real NVIDIA GPU: the same losses as on the CPU, under single, accumulation, recomputation, bf16 and
QLoRA; memory from CUDA's own statistics; NCCL with one rank, and with two on one device where the library allows it.
Skips, saying why, where there is no GPU or the engine was built against a torch without CUDA.

With RIGWISE_GPU_RECORD=FILE the figures are written there as JSON, with the device's name, for tests/fixtures."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

ENGINE = os.environ["RIGWISE_ENGINE"]


def why_not():
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except FileNotFoundError:
        return "no nvidia-smi: no NVIDIA driver here"
    if listed.returncode != 0 or "GPU 0" not in listed.stdout:
        return f"nvidia-smi -L lists no GPU: {listed.stdout.strip() or listed.stderr.strip()}"
    tried = subprocess.run([ENGINE, "device", "--device", "cuda:0", "--json"], capture_output=True, text=True)
    if tried.returncode != 0:
        return f"rigwise-engine cannot use the GPU: {tried.stderr.strip()}"
    return None


REASON = why_not()


@unittest.skipIf(REASON, REASON)
class OnTheGpu(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.folder / "text.txt").write_text(" ".join(f"the {n % 7} of {n * n % 31} and" for n in range(20000)))
        cls.run_engine("make-model", "--out", cls.folder / "model", "--hidden", 256, "--layers", 4, "--heads", 8,
                       "--kv-heads", 4, "--vocab", 1024, "--tokenizer-from", cls.folder / "text.txt")
        cls.record = {"gpu": subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
                                            capture_output=True, text=True).stdout.strip(), "runs": {}}
        cls.cpu = {method: cls.train(f"cpu-{method}", "--method", method) for method in ("lora", "full", "qlora")}

    @classmethod
    def tearDownClass(cls):
        if os.environ.get("RIGWISE_GPU_RECORD"):
            pathlib.Path(os.environ["RIGWISE_GPU_RECORD"]).write_text(json.dumps(cls.record, indent=1) + "\n")

    @classmethod
    def run_engine(cls, *words):
        ran = subprocess.run([ENGINE, *map(str, words)], capture_output=True, text=True, timeout=300)
        if ran.returncode != 0:
            raise AssertionError(f"{words}: exit {ran.returncode}\n{ran.stderr}")

    @classmethod
    def train(cls, out, *words):
        cls.run_engine("train", "--model", cls.folder / "model", "--data", cls.folder / "text.txt", "--out", cls.folder / out,
                       "--seq", 128, "--global-batch", 8, "--micro-batch", 8, "--steps", 10, "--lr", "1e-3", *words)
        lines = [json.loads(line) for line in (cls.folder / out / "log.jsonl").read_text().splitlines()]
        steps = [line for line in lines if "loss" in line]
        cls.record["runs"][out] = steps
        return steps

    def check(self, name, method, tolerance, *words):
        steps = self.train(name, "--device", "cuda", "--method", method, *words)
        for ours, theirs in zip(steps, self.cpu[method], strict=True):
            self.assertLessEqual(abs(ours["loss"] - theirs["loss"]) / theirs["loss"], tolerance, f"step {ours['step']}")
            self.assertEqual(ours["token_hash"], theirs["token_hash"])
            phases = sum(ours[key] for key in ("data_s", "forward_s", "backward_s", "sync_s", "optimizer_s"))
            self.assertAlmostEqual(phases, ours["step_time_s"], places=5)
            self.assertGreater(ours["peak_memory_bytes"], 1 << 20)
        return steps

    def test_single(self):
        for method in ("lora", "full", "qlora"):
            with self.subTest(method):
                self.check(f"single-{method}", method, 1e-4)

    def test_accumulation(self):
        self.check("accumulation", "full", 1e-4, "--micro-batch", 2)

    def test_recomputation_takes_less_memory(self):
        plain = self.check("plain", "full", 1e-4)
        again = self.check("recomputed", "full", 1e-4, "--checkpoint-activations")
        self.assertLess(again[-1]["peak_memory_bytes"], plain[-1]["peak_memory_bytes"])

    def test_bf16(self):
        self.check("bf16", "full", 2e-2, "--dtype", "bf16")
        self.check("bf16-lora", "lora", 2e-2, "--dtype", "bf16")

    def test_two_ranks_on_one_device(self):
        try:
            self.check("nccl-ddp2", "lora", 1e-4, "--device", "cuda:0", "--ranks", 2, "--strategy", "ddp", "--micro-batch", 4)
        except AssertionError as error:
            if "uplicate GPU" in str(error) or "NCCL" in str(error):
                self.skipTest(f"NCCL does not take two ranks on one device: {error}")
            raise


if __name__ == "__main__":
    if REASON:
        print(f"skipped: {REASON}")
    unittest.main(verbosity=2)
