"""The question of a second GPU on a machine that has none: two hosts of one core each, and a slow wire between them.

    python3 examples/second-gpu/live.py [FOLDER] [--mbit 300] [--steps 60] [--runs 3] [--build build/release]

Everything here is run: rigwise-engine on one rank, the wire measured, `rigwise plan`'s options from both, then two ranks over that
wire, and `rigwise decide` against the limit that was sealed before the first recorded run. Two network namespaces stand for the hosts
(root and iproute2); rank 0 is recorded, rank 1 trains beside it.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
from two_hosts import NoNamespaces, TwoHosts  # noqa: E402

PILOT_STEPS, WISH = 8, 0.75  # the limit: that share of what one rank would take by its pilot
TEXT = "".join(f"The {a} {b} of the {c} was {d}.\n" for a in ("old", "new", "red", "wet", "odd") for b in
               ("roof", "door", "wall", "gate", "lamp") for c in ("barn", "mill", "town", "ship", "farm") for d in
               ("closed", "open", "lost", "sold", "kept", "built", "seen"))


def tell(title):
    print(f"\n== {title}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=pathlib.Path)
    parser.add_argument("--mbit", type=int, default=300, help="rate of the wire, Mbit/s")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--runs", type=int, default=3, help="recorded runs a side")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    options = parser.parse_args()
    folder = (options.folder or pathlib.Path(tempfile.mkdtemp(prefix="second-gpu-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    rigwise, engine = options.build.resolve() / "rigwise", options.build.resolve() / "rigwise-engine"

    def call(*words, may=(0,)):
        done = subprocess.run(list(map(str, words)), cwd=folder, text=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        if done.returncode not in may:
            raise SystemExit(f"{' '.join(map(str, words))}: exit {done.returncode}")
        return done.stdout

    def train(steps, out, strategy):
        return [engine, "train", "--model", "model", "--data", "text.txt", "--method", "full", "--seq", "128", "--global-batch", "8",
                "--micro-batch", "2", "--schedule", "constant", "--seed", "0", "--threads", "1", "--device", "cpu", "--strategy",
                strategy, "--steps", steps, "--out", out]

    (folder / "text.txt").write_text(TEXT)
    call(engine, "make-model", "--out", "model", "--hidden", options.hidden, "--layers", "6", "--heads", "4", "--vocab", "512",
         "--max-seq", "128", "--tokenizer-from", "text.txt")
    try:
        hosts = TwoHosts()
        hosts.limit(options.mbit)
    except NoNamespaces as error:
        raise SystemExit(str(error))
    try:
        call("taskset", "-c", "0", *train(PILOT_STEPS, "out/pilot", "single"))
        pilot = [json.loads(line) for line in (folder / "out/pilot/log.jsonl").read_text().splitlines()]
        limit = WISH * options.steps * statistics.median(line["step_time_s"] for line in pilot if "step_time_s" in line)
        threshold = f"wall_clock({options.steps} steps) <= {limit:.1f}s"
        call(rigwise, "init", "--lab", "lab.toml", "--experiment", "second-host", "--bottleneck",
             "nearly all of a run is the steps' compute on one rank", "--threshold", threshold, "--option",
             f"a second host over a wire of {options.mbit} Mbit/s, data parallel, same global batch", "--reason",
             "the micro-steps are split over two ranks; a step exchanges the gradients", "--stop",
             "the limit is not reached once the first bottleneck that the runs show is fixed", "--baseline", "single", "--candidate",
             "two-host")
        tell(f"sealed: {threshold}")
        for i in range(options.runs):
            call("taskset", "-c", "0", rigwise, "run", "--quiet", "--name", "single", "--", *train(options.steps, f"out/single-{i}", "single"))
        link, _ = hosts.both([engine, "link", "--json", "--repeats", "3", "--sizes", "8,64KiB,512KiB,4MiB"])
        (folder / "link.json").write_text(link)
        tell("plan: from the one-rank run and the measured wire (the GPU's name stands for the second host's core)")
        print(call(rigwise, "plan", "--from", "single", "--add", "rtx3090 @ measured", "--link", "link.json", "--threshold", threshold))
        (folder / "plan.json").write_text(call(rigwise, "plan", "--json", "--from", "single", "--add", "rtx3090 @ measured", "--link",
                                               "link.json", "--threshold", threshold))
        for i in range(options.runs):
            hosts.both(train(options.steps, f"out/two-{i}", "ddp"), front=[rigwise, "run", "--quiet", "--name", "two-host", "--"], cwd=folder)
        tell("what then happened")
        print(call(rigwise, "compare", "single", "--", "two-host", may=(0, 3)))
        tell("decide")
        print(call(rigwise, "decide", "--lab", "lab.toml", may=(0, 3)))
    finally:
        hosts.close()
    print(f"everything lies in {folder}")


if __name__ == "__main__":
    main()
