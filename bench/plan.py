"""`rigwise plan` against what then happens: one rank's run and a link, from them the two ranks' step; prints, asserts nothing.

    ./dev bench plan [--rates 100,300,1000] [--repeats 3] [--strategies ddp,fsdp,tp,pp] [--folder build/bench-plan] [--budget S]
    ./dev bench plan --hf PYTHON --folder build/bench-plan-hf    # examples/hf/train.py under torch's DDP; PYTHON has its packages

Two network namespaces of this machine stand for two hosts; token buckets limit the link between them (needs root and iproute2).
A rank is one thread on a core of its own. For each repeat: `rigwise run -- rigwise-engine train` on one rank, the link measured at
each rate (Mbit/s), `rigwise plan --from` that run over that link, then each strategy trained over it with the same work.
Everything measured is kept in --folder and not measured again: a run that was ended goes on where it stood, and --budget ends
it after that many seconds (exit 3 while something is left).
"""
import argparse
import csv
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

from two_hosts import NoNamespaces, TwoHosts

ROOT = pathlib.Path(__file__).resolve().parent.parent
# a full fine-tuning whose gradients (19 MB) are worth a look on any of these links
MODEL = ["--hidden", "256", "--layers", "6", "--heads", "4", "--vocab", "512", "--max-seq", "128"]
WORK = ["--method", "full", "--seq", "128", "--global-batch", "8", "--micro-batch", "2", "--schedule", "constant", "--seed", "0",
        "--threads", "1", "--device", "cpu"]
SINGLE_STEPS, PAIR_STEPS, WARM_UP = 40, 12, 3
LINK = ["link", "--json", "--repeats", "3", "--sizes", "8,64KiB,512KiB,4MiB"]


def call(words, **keywords):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, **keywords)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-3000:]}")
    return done.stdout


class Bench:
    def __init__(self, options):
        self.options, self.folder = options, options.folder.resolve()
        build = options.build.resolve()
        self.rigwise, self.engine = build / "rigwise", build / "rigwise-engine"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.deadline = time.monotonic() + options.budget if options.budget else None
        self.hosts = None

    def once(self, name, make):
        """What is in the file NAME, made where it is not there yet. None: no time is left."""
        file = self.folder / name
        if not file.exists():
            if self.deadline and time.monotonic() > self.deadline:
                return None
            text = make()
            part = file.with_suffix(".part")
            part.write_text(text)
            part.rename(file)
        return json.loads(file.read_text())

    def over(self, mbit):
        self.hosts = self.hosts or TwoHosts()
        self.hosts.limit(mbit)
        return self.hosts

    def prepare(self):
        text = self.folder / "text.txt"
        if not (self.folder / "model").exists():
            text.write_text("".join(f"The {a} {b} of the {c} was {d}.\n" for a in ("old", "new", "red", "wet", "odd") for b in
                                    ("roof", "door", "wall", "gate", "lamp") for c in ("barn", "mill", "town", "ship", "farm") for d in
                                    ("closed", "open", "lost", "sold", "kept", "built", "seen")))
            call([self.engine, "make-model", "--out", self.folder / "model", *MODEL, "--tokenizer-from", text])

    def train(self, steps, out, *words):
        shutil.rmtree(out, ignore_errors=True)
        return [self.engine, "train", "--model", self.folder / "model", "--data", self.folder / "text.txt", *WORK, "--steps",
                steps, "--out", out, *words]

    def step_seconds(self, out):
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        steps = [line for line in lines if "step_time_s" in line][WARM_UP:]
        figures = {key: statistics.median(step[key] for step in steps) for key in
                   ("step_time_s", "data_s", "forward_s", "backward_s", "sync_s", "optimizer_s")}
        return json.dumps({**figures, "steps": len(steps), "hash": steps[-1]["token_hash"]})

    def single(self, repeat):
        def make():
            out = self.folder / f"out-single-{repeat}"
            call(["taskset", "-c", "0", self.rigwise, "run", "--quiet", "--runs", self.folder / "runs", "--name", f"single{repeat}",
                  "--", *self.train(SINGLE_STEPS, out, "--strategy", "single")], cwd=self.folder)
            return self.step_seconds(out)
        return self.once(f"single-{repeat}.json", make)

    def link(self, repeat, mbit):
        return self.once(f"link-{mbit}-{repeat}.json", lambda: self.over(mbit).both([self.engine, *LINK])[0])

    def pair(self, repeat, mbit, strategy):
        def make():
            out = self.folder / f"out-{strategy}-{mbit}-{repeat}"
            self.over(mbit).both(self.train(PAIR_STEPS, out, "--strategy", strategy))
            return self.step_seconds(out)
        return self.once(f"pair-{strategy}-{mbit}-{repeat}.json", make)

    def plan(self, repeat, mbit):
        began = time.monotonic()
        text = call([self.rigwise, "plan", "--json", "--runs", self.folder / "runs", "--from", f"single{repeat}", "--add",
                     f"{self.options.gpu} @ measured", "--link", self.folder / f"link-{mbit}-{repeat}.json"], cwd=self.folder)
        return json.loads(text), time.monotonic() - began

    def measure(self):
        """True where nothing is left to be measured."""
        self.prepare()
        for repeat in range(self.options.repeats):
            if self.single(repeat) is None:
                return False
            for mbit in self.options.rates:
                if self.link(repeat, mbit) is None:
                    return False
                for strategy in self.strategies():
                    if self.pair(repeat, mbit, strategy) is None:
                        return False
        return True

    def strategies(self):
        return self.options.strategies

    def report(self):
        plan_s = []
        print(f"{'Mbit/s':>7} {'strategy':<9} {'predicted':>22} {'measured':>10} {'error':>7}   in the interval  repeats' errors")
        worst = {}
        for mbit in self.options.rates:
            rows = {}
            regrets = []
            for repeat in range(self.options.repeats):
                if not (self.folder / f"link-{mbit}-{repeat}.json").exists():
                    continue
                plan, took = self.plan(repeat, mbit)
                plan_s.append(took)
                measured, predicted = {"single": self.single(repeat)["step_time_s"]}, {}
                for one in plan["strategies"]:
                    file = self.folder / f"pair-{one['strategy']}-{mbit}-{repeat}.json"
                    if "step" not in one:
                        continue
                    predicted[one["strategy"]] = one["step"]["value_s"]
                    if file.exists():
                        measured[one["strategy"]] = json.loads(file.read_text())["step_time_s"]
                        rows.setdefault(one["strategy"], []).append((one["step"], measured[one["strategy"]]))
                both = [name for name in predicted if name in measured]
                first = min(both, key=predicted.get)
                regrets.append((measured[first] / min(measured.values()) - 1, first, min(measured, key=measured.get)))
            for strategy, pairs in rows.items():
                errors = [100 * (step["value_s"] / seconds - 1) for step, seconds in pairs]
                inside = sum(step["low_s"] <= seconds <= step["high_s"] for step, seconds in pairs)
                middle = lambda key: statistics.median(step[key] for step, _ in pairs)
                span = f"{middle('value_s'):.3f} ({middle('low_s'):.3f} to {middle('high_s'):.3f})"
                print(f"{mbit:>7} {strategy:<9} {span:>22} {statistics.median(s for _, s in pairs):>8.3f} s {statistics.median(errors):>+6.1f}%"
                      f"   {inside} of {len(pairs)}           {' '.join(f'{e:+.1f}' for e in errors)}")
                worst[strategy] = max(worst.get(strategy, 0), abs(statistics.median(errors)))
            for regret, first, best in regrets:
                print(f"{mbit:>7} predicted first {first}, measured best {best}: regret {100 * regret:.1f} %")
        print("worst median error: " + ", ".join(f"{name} {error:.1f} %" for name, error in worst.items()))
        if plan_s:
            print(f"a plan took {1000 * statistics.median(plan_s):.0f} ms (whole program)")


class HuggingFace(Bench):
    """The same with the Trainer: steps are timed by their lines in the log, as rigwise recorded them."""

    def strategies(self):
        return ["ddp"]

    def prepare(self):
        example, text = ROOT / "examples/hf", self.folder / "text.jsonl"
        if not (self.folder / "model").exists():
            words = ("barn", "mill", "town", "ship", "farm", "roof", "door", "wall", "gate", "lamp")
            text.write_text("".join(json.dumps({"text": " ".join(words[(i * j) % 10] for j in range(1, 200))}) + "\n" for i in range(300)))
            call([self.options.hf, example / "make_model.py", "--text", text, "--out", self.folder / "model", "--hidden", "256",
                  "--layers", "6", "--heads", "4", "--vocab", "512"])

    def words(self, steps, out, micro_steps):
        return [self.options.hf, ROOT / "examples/hf/train.py", "--model", self.folder / "model", "--data", self.folder / "text.jsonl",
                "--output_dir", out, "--seq_len", "128", "--max_steps", steps, "--per_device_train_batch_size", "2",
                "--gradient_accumulation_steps", micro_steps, "--lora_rank", "64", "--logging_steps", "1", "--save_steps", "0", "--cpu",
                "--cpu_threads", "1"]

    def recorded(self, name):
        return [self.rigwise, "run", "--quiet", "--runs", self.folder / "runs", "--name", name, "--"]

    def steps_of(self, name):
        shown = json.loads(call([self.rigwise, "runs", "show", name, "--json", "--runs", self.folder / "runs"]))
        with open(pathlib.Path(shown["dir"]) / "steps.csv") as file:
            ends = [float(row["t_s"]) for row in csv.DictReader(file) if row["kind"] == "train" and row["loss"]]
        times = [b - a for a, b in zip(ends, ends[1:])][WARM_UP:]
        return json.dumps({"step_time_s": statistics.median(times), "steps": len(times)})

    def single(self, repeat):
        def make():
            name = f"single{repeat}"
            call(["taskset", "-c", "0", *self.recorded(name), *self.words(SINGLE_STEPS, self.folder / f"out-{name}", 4)], cwd=self.folder)
            return self.steps_of(name)
        return self.once(f"single-{repeat}.json", make)

    def pair(self, repeat, mbit, strategy):
        def make():
            name = f"pair-{mbit}-{repeat}"
            os.environ["GLOO_SOCKET_IFNAME"] = "wire"
            self.over(mbit).both(self.words(2 * PAIR_STEPS, self.folder / f"out-{name}", 2), front=self.recorded(name), cwd=self.folder)
            return self.steps_of(name)
        return self.once(f"pair-{strategy}-{mbit}-{repeat}.json", make)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=lambda text: [int(word) for word in text.split(",")], default=[100, 300, 1000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--strategies", type=lambda text: text.split(","), default=["ddp", "fsdp", "tp", "pp"])
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/bench-plan")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--gpu", default="rtx3090", help="a name of the catalogue: no GPU is used, plan wants one")
    parser.add_argument("--budget", type=float, help="seconds after which no further measurement is started")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--hf", metavar="PYTHON", help="examples/hf instead of the engine")
    options = parser.parse_args()
    bench = HuggingFace(options) if options.hf else Bench(options)
    try:
        whole = options.report_only or bench.measure()
    except NoNamespaces as error:
        raise SystemExit(str(error))
    finally:
        if bench.hosts:
            bench.hosts.close()
    if not whole:
        sys.exit(3)
    bench.report()


if __name__ == "__main__":
    main()
