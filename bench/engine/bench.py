"""rigwise-engine beside transformers and PEFT on this machine, in turn; prints figures, asserts none.

    ./dev bench engine [PART…]    PARTS: lora20 lora135 packed ddp (default: all but lora135, which needs --real DIR)

lora20   LoRA tokens/s on a made 20 M model, one process with all cores            bar 1.3 times
lora135  the same on SmolLM2-135M (tools/smollm2 DIR makes the folder)             bar 1.05 times
packed   documents of a text: packed without contamination against padded rows     bar 2 times the useful tokens/s
ddp      two ranks of one thread against one: efficiency, beside torch's DistributedDataParallel   bar: not below it

Text: --text FILE, else what is made here. Python of the peer: RIGWISE_PYTHON, else .venv. Peak memory is the process's.
"""

import argparse
import json
import math
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PEER = pathlib.Path(__file__).with_name("hf_lora.py")
WARM = 2


def made_text():
    draw = random.Random(1)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(3000)]
    weights = [1 / (rank + 2) for rank in range(len(words))]
    return "\n".join(" ".join(draw.choices(words, weights, k=draw.randint(8, 120))) for _ in range(6000))


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.engine = options.engine or ROOT / "build/release/rigwise-engine"
        self.python = os.environ.get("RIGWISE_PYTHON") or ROOT / ".venv/bin/python"
        self.text = pathlib.Path(options.text) if options.text else folder / "text.txt"
        if not options.text:
            self.text.write_text(made_text())
        self.count = 0

    def made_model(self):
        model = self.folder / "m20"
        if not model.exists():
            self.run([self.engine, "make-model", "--out", model, "--hidden", 384, "--layers", 8, "--heads", 6, "--vocab", 8192,
                      "--max-seq", 1024, "--tokenizer-from", self.text])
        return model

    def run(self, words, **env):
        ran = subprocess.run([str(word) for word in words], capture_output=True, text=True, env={**os.environ, **env})
        if ran.returncode != 0:
            raise SystemExit(f"{words}: exit {ran.returncode}\n{ran.stderr[-3000:]}")
        return ran.stdout

    def ours(self, model, data, batch, *words):
        self.count += 1
        out = self.folder / f"run{self.count}"
        self.run([self.engine, "train", "--model", model, "--data", data, "--out", out, "--micro-batch", batch, "--lora-rank", 8,
                  "--lora-alpha", 16, "--steps", self.options.steps, *words])
        steps = [line for line in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "loss" in line][WARM:]
        return {"tokens_per_s": sum(s["tokens"] for s in steps) / sum(s["step_time_s"] for s in steps),
                "peak_memory_bytes": steps[-1]["peak_memory_bytes"]}

    def theirs(self, model, data, batch, *words, ranks=1):
        launch = [self.python] if ranks == 1 else [self.python, "-m", "torch.distributed.run", "--nproc_per_node", ranks]
        threads = {} if ranks == 1 else {"OMP_NUM_THREADS": "1"}
        printed = self.run([*launch, PEER, "--model", model, "--data", data, "--out", self.folder / "peer", "--batch", batch,
                            "--steps", self.options.steps, "--warm", WARM, *words], **threads)
        return json.loads(printed.strip().splitlines()[-1])

    def pairs(self, name, bar, ours, theirs):
        """Alternating; the ratio of each pair, its geometric mean and 95 % interval."""
        a, b = [], []
        for _ in range(self.options.pairs):
            a.append(ours())
            b.append(theirs())
        logs = [math.log(x["tokens_per_s"] / y["tokens_per_s"]) for x, y in zip(a, b)]
        mean = statistics.fmean(logs)
        t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36}.get(len(logs), 2.2)
        half = t * statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
        mb = [max(x["peak_memory_bytes"] for x in side) / 1e6 for side in (a, b)]
        print(f"{name}: {math.exp(mean):.2f} times ({math.exp(mean - half):.2f} to {math.exp(mean + half):.2f}), "
              f"{statistics.fmean(x['tokens_per_s'] for x in a):.0f} against "
              f"{statistics.fmean(x['tokens_per_s'] for x in b):.0f} useful tokens/s, {len(logs)} pairs; "
              f"peak {mb[0]:.0f} against {mb[1]:.0f} MB   bar: {bar}", flush=True)

    def lora20(self):
        model = self.made_model()
        self.pairs("lora20", "1.3", lambda: self.ours(model, self.text, 4, "--seq", 512),
                   lambda: self.theirs(model, self.text, 4, "--seq", 512))

    def lora135(self):
        model = self.options.real
        self.pairs("lora135", "1.05", lambda: self.ours(model, self.text, 2, "--seq", 512),
                   lambda: self.theirs(model, self.text, 2, "--seq", 512))

    def packed(self):
        model = self.made_model()
        documents = self.folder / "documents.txt"
        parts = [part for part in self.text.read_text(encoding="utf-8").split("\n\n" if self.options.text else "\n") if part.strip()]
        documents.write_text("\n<|doc|>\n".join(part.strip("\n") for part in parts), encoding="utf-8")
        self.pairs("packed", "2", lambda: self.ours(model, documents, 4, "--seq", 512, "--pack", "documents"),
                   lambda: self.theirs(model, documents, 16, "--seq", 512, "--documents"))

    def ddp(self):
        model = self.made_model()
        ours, theirs = [], []
        for _ in range(self.options.pairs):
            one = self.ours(model, self.text, 2, "--seq", 512, "--threads", 1)["tokens_per_s"]
            two = self.ours(model, self.text, 2, "--seq", 512, "--threads", 1, "--ranks", 2, "--strategy", "ddp")["tokens_per_s"]
            ours.append(two / one / 2)
            one = self.theirs(model, self.text, 2, "--seq", 512, "--threads", 1)["tokens_per_s"]
            two = self.theirs(model, self.text, 2, "--seq", 512, "--threads", 1, ranks=2)["tokens_per_s"]
            theirs.append(two / one / 2)
        text = " ".join(f"{x:.3f}/{y:.3f}" for x, y in zip(ours, theirs))
        print(f"ddp: efficiency of two ranks {statistics.fmean(ours):.3f} against {statistics.fmean(theirs):.3f} of torch DDP "
              f"(each pair {text})   bar: not below", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["lora20", "packed", "ddp"])
    parser.add_argument("--engine")
    parser.add_argument("--real")
    parser.add_argument("--text")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, pathlib.Path(folder))
        for part in options.parts or sys.exit("no part"):
            getattr(bench, part)()
