#!/usr/bin/env python3
"""Run one scenario under `rigwise run` and hold its ledger against what was really planted.

    python3 tests/faults/run.py SCENARIO [--rigwise build/dev/rigwise] [--engine build/dev/rigwise-engine] [--work FOLDER]
    python3 tests/faults/run.py --list [WORD]
    python3 tests/faults/run.py --again FOLDER      the ledger of a kept run once more, by the present rigwise

RIGWISE_PYTHON names a Python with torch (and transformers and peft for the hf scenarios), else this one is used. Everything
lies under FOLDER/SCENARIO: the run directory, the ranks' stopwatches (truth/), scenario.json and result.json.
"""
import argparse
import contextlib
import fcntl
import json
import os
import pathlib
import pty
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

import inject
import scenarios
import truth
from engine_watch import EngineWatch

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIMIT_S = 900


class Skipped(Exception):
    pass


class Failed(Exception):
    pass


@contextlib.contextmanager
def one_at_a_time():
    """A second training beside it would be a fault that nobody planted."""
    with open(pathlib.Path(tempfile.gettempdir()) / "rigwise-faults.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def has_modules(python, *modules):
    code = "import importlib.util, sys; sys.exit(any(importlib.util.find_spec(m) is None for m in sys.argv[1:]))"
    return subprocess.run([python, "-c", code, *modules], capture_output=True).returncode == 0


def once(folder, make):
    """Made beside and renamed, so that a cut leaves no half of it."""
    if not folder.exists():
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        make(part)
        part.rename(folder)
    return folder


def hf_inputs(python, work):
    def make(folder):
        examples = ROOT / "examples/hf"
        for words in (["prepare_data.py", "--out", folder / "data", "--rows", "400"],
                      ["make_model.py", "--text", folder / "data/train.jsonl", "--out", folder / "model", "--hidden", "192",
                       "--layers", "2", "--heads", "4", "--vocab", "1024", "--init_std", "0.06"]):
            subprocess.run([python, str(examples / words[0]), *map(str, words[1:])], check=True, capture_output=True)

    folder = once(work / "hf", make)
    return {"{model}": folder / "model", "{train}": folder / "data/train.jsonl", "{held}": folder / "data/held.jsonl"}


def engine_inputs(engine, work):
    def make(folder):
        text = " ".join(f"line {i} of a made text, {i * 7919 % 1013}." for i in range(12000))
        (folder / "text.txt").write_text(text)
        subprocess.run([engine, "make-model", "--out", str(folder / "model"), "--hidden", "192", "--layers", "4", "--heads", "4",
                        "--vocab", "1024", "--max-seq", "128", "--tokenizer-from", str(folder / "text.txt")], check=True,
                       capture_output=True)

    folder = once(work / "engine", make)
    return {"{engine}": engine, "{engine_model}": folder / "model", "{text}": folder / "text.txt"}


def command_of(scenario, options, folder, injector):
    python = options.python
    if "engine" not in scenario.needs and not has_modules(python, "torch"):
        raise Skipped(f"{python} has no torch (RIGWISE_PYTHON)")
    torchrun = pathlib.Path(python).parent / "torchrun"
    fill = {"{python}": python, "{here}": HERE / "workloads", "{out}": folder / "out", "{slow}": folder / "slow",
            "{torchrun}": torchrun}
    if any("{torchrun}" in word for word in scenario.argv) and not torchrun.exists():
        raise Skipped(f"no torchrun beside {python}")
    if "hf" in scenario.needs:
        if not has_modules(python, "transformers", "peft", "accelerate"):
            raise Skipped(f"{python} has no transformers and peft")
        fill |= hf_inputs(python, options.work)
    if "engine" in scenario.needs:
        if not options.engine or not shutil.which(options.engine):
            raise Skipped("no rigwise-engine (--engine)")
        fill |= engine_inputs(options.engine, options.work)
    if getattr(injector, "names", None):
        fill |= {"{netns0}": injector.names[0], "{netns1}": injector.names[1]}
    words = []
    for word in scenario.argv:
        for hole, value in fill.items():
            word = word.replace(hole, str(value))
        words.append(word)
    return words


def pressure():
    """CPU seconds that something waited for a core, since boot; None where the kernel does not say."""
    try:
        for line in pathlib.Path("/proc/pressure/cpu").read_text().splitlines():
            if line.startswith("some"):
                return int(line.rpartition("total=")[2]) / 1e6
    except OSError:
        pass
    return None


def descendants(pid):
    try:
        children = [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        children = []
    return [pid] + [below for child in children for below in descendants(child)]


def favour(pid, level, end):
    """Keeps a run on a shared machine from starving: its sessions' share of the cores (autogroup), as long as it runs.

    Again and again, since a process may begin a session of its own.
    """
    while not end.wait(0.5):
        for below in descendants(pid):
            try:
                path = pathlib.Path(f"/proc/{below}/autogroup")
                if path.read_text().split()[-1] != str(level):
                    path.write_text(str(level))
            except OSError:
                pass


def start(argv, terminal, folder, env):
    """The command on a terminal of its own (its bytes go to screen.txt), or with its output in a file."""
    screen = open(folder / "screen.txt", "wb")
    if not terminal:
        return subprocess.Popen(argv, stdout=screen, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env, cwd=folder), None
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))  # without columns, bars print nothing
    child = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=folder, start_new_session=True)
    os.close(theirs)

    def drain():
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:
                break
            if not data:
                break
            screen.write(data)
        os.close(ours)
        screen.close()

    reader = threading.Thread(target=drain)
    reader.start()
    return child, reader


def wait_for_ranks(folder, ranks, child):
    """[{"rank", "pid", "t"}] once all have ended their third step; None if the command ends before."""
    while child.poll() is None:
        found = sorted(folder.glob("rank*.began"))
        if len(found) >= ranks:
            return [dict(json.loads(path.read_text()), rank=int(path.stem[4:])) for path in found]
        time.sleep(0.05)
    return None


def run_training(scenario, options, folder, injector):
    (folder / "truth").mkdir()
    argv = command_of(scenario, options, folder, injector)
    env = dict(os.environ, RIGWISE_RUNS=str(folder / "runs"), RIGWISE_FAULT_TRUTH=str(folder / "truth"), OMP_NUM_THREADS="1",
               TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", **injector.env())
    env.pop("RIGWISE_PYTHON", None)
    began, before, watch = time.monotonic(), pressure(), None
    words = [str(options.rigwise), "run", "--quiet", "--name", "fault", "--", *argv]
    child, reader = start(injector.around(words), scenario.terminal, folder, env)
    end = threading.Event()
    if options.autogroup is not None:
        threading.Thread(target=favour, args=(child.pid, options.autogroup, end), daemon=True).start()
    try:
        watch = EngineWatch(folder / "truth", argv[argv.index("--out") + 1], scenario.ranks, child) if "engine" in scenario.needs else None
        ranks = wait_for_ranks(folder / "truth", scenario.ranks, child)
        if ranks:
            injector.began(ranks)
        child.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        child.terminate()
        child.wait(30)
        raise Failed(f"did not end within {LIMIT_S} s") from None
    finally:
        if child.poll() is None:  # cut: the training ends with its harness
            child.terminate()
            child.wait(30)
        injector.__exit__()
        end.set()
        if reader:
            reader.join(10)
        if watch:
            watch.join()
    wall_s, after = time.monotonic() - began, pressure()
    if child.returncode != 0:
        raise Failed(f"exit status {child.returncode}: {(folder / 'screen.txt').read_bytes()[-600:].decode(errors='replace')}")
    return {"argv": argv, "outside_wall_s": round(wall_s, 2), "injected": injector.report(), "ranks": scenario.ranks,
            "cpu_pressure_frac": None if after is None else round((after - before) / wall_s, 3)}


def ledger_of(rigwise, folder):
    done = subprocess.run([str(rigwise), "ledger", "fault", "--json", "--runs", str(folder / "runs")], capture_output=True,
                          text=True)
    if done.returncode not in (0, 3, 4):
        raise Failed(f"ledger: exit {done.returncode}: {done.stderr[-600:]}")
    return json.loads(done.stdout)


def start_of(folder):
    """The run's zero on CLOCK_MONOTONIC."""
    return json.loads(next(folder.glob("runs/*-fault/run.json")).read_text())["start_monotonic_s"]


def judge(folder, rigwise):
    facts = json.loads((folder / "scenario.json").read_text())
    ledger = ledger_of(rigwise, folder)
    (folder / "ledger.json").write_text(json.dumps(ledger, indent=1))
    ranks = truth.read_ranks(folder / "truth")
    if not ranks:
        raise Failed("no stopwatch wrote its report")
    zero, injected = start_of(folder), dict(facts["injected"])
    injected["held"] = [[zero + low, zero + high, lost] for low, high, lost in injected.get("held", [])]
    rows, per_rank = truth.true_rows(ranks, injected, ledger["wall_s"], zero)
    result = truth.score(ledger, rows, facts["planted"])
    result |= {"scenario": facts["name"], "family": facts["family"], "severity": facts["severity"], "folder": str(folder),
               "cpu_pressure_frac": facts["cpu_pressure_frac"], "why": ledger["bottleneck"]["why"],
               "planted_s": {str(rank["rank"]): rank["planted_s"] for rank in ranks},
               "rank_truth": {str(rank): {c: round(s, 2) for c, s in found.items()} for rank, found in per_rank.items()}}
    (folder / "result.json").write_text(json.dumps(result, indent=1))
    return result


def run(scenario, options, name=None):
    """Runs and judges it in a folder of its own (`name`: of a repetition)."""
    folder = options.work / (name or scenario.name)
    if os.path.ismount(folder / "slow"):  # of a call that was killed
        subprocess.run(["fusermount3", "-u", "-z", str(folder / "slow")])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    injector = scenario.injector() if scenario.injector else inject.Nothing()
    injector.build = options.rigwise.parent
    why = injector.lacks()
    if why:
        raise Skipped(why)
    try:
        if hasattr(injector, "prepare"):
            injector.prepare(folder)
        with one_at_a_time():
            facts = run_training(scenario, options, folder, injector)
    finally:
        injector.__exit__()
    facts |= {"name": name or scenario.name, "family": scenario.family, "severity": scenario.severity, "planted": scenario.planted}
    (folder / "scenario.json").write_text(json.dumps(facts, indent=1))
    return judge(folder, options.rigwise)


def show(result):
    load = result["cpu_pressure_frac"]
    print(f"{result['scenario']}: {result['wall_s']:.1f} s" + (f", CPU pressure {load:.0%}" if load is not None else ""))
    print(f"  {'class':12} {'truth':>8} {'ledger':>8} {'interval':>17}  {'off':>7}  how")
    for cls, row in result["rows"].items():
        mark = " <- planted" if cls in result["planted"] else ""
        if not row["known"]:
            print(f"  {cls:12} {row['truth_s']:8.2f} {'-':>8} {'':>17}  {'':>7}  not known{mark}")
            continue
        fits = "inside" if row["inside"] else "within a tenth" if row["within_tenth"] else "OUTSIDE"
        print(f"  {cls:12} {row['truth_s']:8.2f} {row['ledger_s']:8.2f} {row['low_s']:8.2f} {row['high_s']:8.2f}  "
              f"{row['error_s']:+7.2f}  {row['how']}, {fits}{mark}")
    print(f"  bottleneck: {result['named']} ({'right' if result['hit'] else 'WRONG, should be ' + ' or '.join(result['right'])})"
          f": {result['why']}")
    if not result["sum_ok"]:
        print(f"  ROWS DO NOT SUM: {result['sum_error_s']:+.6f} s")


def options_of(parser, default_build=ROOT / "build/dev"):
    parser.add_argument("--rigwise", type=pathlib.Path, default=default_build / "rigwise")
    parser.add_argument("--engine", default=str(default_build / "rigwise-engine"), help="for the engine scenarios")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "rigwise-faults")
    parser.add_argument("--autogroup", type=int, help="share of the cores for the run on a busy machine: -20 (most) to 19; root")
    options = parser.parse_args()
    options.python = os.environ.get("RIGWISE_PYTHON", sys.executable)
    options.work, options.rigwise = options.work.resolve(), options.rigwise.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.autogroup is not None:  # what plants and watches needs its turn as well
        with contextlib.suppress(OSError):
            pathlib.Path("/proc/self/autogroup").write_text(str(options.autogroup))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is planted is taken away
    return options


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenario", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--again", nargs="+", type=pathlib.Path, default=[])
    options = options_of(parser)
    table = scenarios.all_scenarios()
    if options.list:
        print("\n".join(name for name in table if all(word in name for word in options.scenario)))
        return 0
    status = 0
    for folder in options.again:
        show(judge(folder.resolve(), options.rigwise))
    for name in options.scenario:
        if name not in table:
            print(f"no scenario {name}; --list shows them", file=sys.stderr)
            return 2
        try:
            result = run(table[name], options)
            show(result)
            status |= not (result["hit"] and result["sum_ok"])
        except Skipped as why:
            print(f"{name}: skipped: {why}")
        except Failed as why:
            print(f"{name}: failed: {why}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
