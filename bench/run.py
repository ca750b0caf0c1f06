"""The project's bars, measured and printed; nothing here asserts a time.

    ./dev bench [PART…]     PARTS: big  read  nccl  cost  windows  peer  alarms  planted  kills  (default: big, read, nccl, cost
                            and kills; the others take ~5 to 20 min)

big      open + ledger + report of an 8-hour, 4-GPU, 1 Hz run: seconds and peak memory
read     1 GB of each of five families of logs through the reader: MB a second of one core, memory it holds
nccl     the NCCL plug-in under a stand-in for NCCL's core at a million calls a second and as fast as it goes: ns a call, losses
cost     what recording costs the Hugging Face example: the recorder paused and resumed in alternating blocks inside one
         run (needs RIGWISE_PYTHON or .venv), its CPU share and memory with 4 fake GPUs
windows  what a profile window costs the Hugging Face example: steps around it against the steps before and after, in one run
         (RIGWISE_BENCH_STEPS, default 900); and what the exit costs a process that was traced
peer     the example plain, under rigwise and under TraceML in turn (RIGWISE_TRACEML=/path/to/traceml)
alarms   the same command against itself, 3 runs a side, 20 repetitions: verdicts FASTER or SLOWER
planted  5 % more work a step, runs a side as the tool itself advises after a pilot, 20 repetitions: SLOWER found
kills    the recorder killed at 200 random instants (tests/system)
"""
import json
import math
import os
import pathlib
import random
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/release"
RIGWISE = BUILD / "rigwise"
WORKLOAD = [sys.executable, str(ROOT / "bench/workload.py")]


def rigwise(folder, *words, check=True, **kwargs):
    env = dict(os.environ, RIGWISE_RUNS=str(folder / "runs"), **kwargs.pop("env", {}))
    done = subprocess.run([str(RIGWISE), *words], cwd=folder, env=env, capture_output=True, text=True, **kwargs)
    if check and done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done


def t_interval(values):
    """Mean and half width of its 95 % interval (Student's t, normal quantile corrected for few values)."""
    n = len(values)
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    z = 1.959964
    t = z + (z**3 + z) / (4 * (n - 1)) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * (n - 1) ** 2)  # Abramowitz-Stegun 26.7.5
    return mean, t * sd / math.sqrt(n)


def big(folder):
    run = folder / "20261101-000000-big"
    subprocess.run([sys.executable, str(ROOT / "bench/big_run.py"), str(run), "8"], check=True)
    best = None
    for _ in range(5):
        out = subprocess.run([str(BUILD / "open_and_report"), str(run), str(folder / "report.html")], check=True,
                             capture_output=True, text=True).stdout
        figures = json.loads(out)
        best = figures if best is None or figures["total_s"] < best["total_s"] else best
    print(f"big: {best['total_s']:.2f} s (open {best['open_s']:.3f}, ledger {best['ledger_s']:.3f}, report "
          f"{best['report_s']:.3f}), {best['peak_rss_mib']:.0f} MiB, page {best['html_bytes'] / 1e6:.1f} MB   bar: 1 s, 200 MiB")


def read(folder, megabytes=1000):
    for family in ("hf", "bars", "pairs", "json", "plain", "line"):
        out = subprocess.run([str(BUILD / "read_speed"), str(megabytes), family], check=True, capture_output=True, text=True,
                             cwd=folder).stdout
        figures = json.loads(out)
        print(f"read: {family:5} {figures['mb_per_s']:6.0f} MB/s, {figures['entries']} entries, "
              f"{figures['reader_mib']:.1f} MiB   bar: 300 MB/s, 16 MiB")


def nccl(folder):
    """Each interface; 2 channels a collective, so 5 to 10 calls. The header counts what found no room."""
    plugin, mock = BUILD / "librigwise-nccl.so", BUILD / "nccl_mock"
    for version, events_a_call in ((2, 4), (3, 8), (6, 10)):
        for threads in (1, 2):
            for rate in (1_000_000 // events_a_call // threads, 0):
                out = folder / f"{version}-{threads}-{rate}"
                env = dict(os.environ, RIGWISE_NCCL_OUT=str(out), RIGWISE_NCCL_WINDOW="always", RIGWISE_NCCL_KERNELS="1")
                calls = 100_000 // threads
                words = [str(mock), str(plugin), str(version), str(threads), str(calls), "2", "exit"] + [str(rate)] * (rate > 0)
                figures = json.loads(subprocess.run(words, env=env, check=True, capture_output=True, text=True).stdout)
                lost, = struct.unpack_from("<Q", out.read_bytes(), 104)
                print(f"nccl: interface {version}, {threads} communicator{'s' * (threads > 1)}, "
                      f"{figures['events'] / figures['seconds'] / 1e6:.2f} million calls/s: {figures['ns_per_event']:.0f} ns a call, "
                      f"{lost} of {threads * calls} operations lost")


def python_with_torch():
    for python in (os.environ.get("RIGWISE_PYTHON"), str(ROOT / ".venv/bin/python")):
        if python and shutil.which(python):
            return python
    return None


def example_argv(python, work, out, steps):
    plan = json.loads((ROOT / "examples/hf/demo.json").read_text())
    fill = {"{python}": python, "{examples}": str(ROOT / "examples"), "{work}": str(work), "{out}": str(out)}

    def words(items):
        result = []
        for word in items:
            for hole, value in fill.items():
                word = word.replace(hole, value)
            result.append(word)
        return result

    for part in ("data", "model"):
        if not all(pathlib.Path(p).exists() for p in words(plan[part]["makes"])):
            subprocess.run(words(plan[part]["argv"]), check=True, capture_output=True)
    argv = words(plan["single"]["launch"] + plan["train"] + plan["single"]["extra"])
    argv[argv.index("--max_steps") + 1] = str(steps)
    for flag in ("--save_steps", "--eval_steps"):
        argv[argv.index(flag) + 1] = str(10 * steps)
    return argv


def cost(folder, steps=int(os.environ.get("RIGWISE_BENCH_STEPS", "900")), block_s=3.0):
    python = python_with_torch()
    if python is None:
        print("cost: skipped, no Python with torch (RIGWISE_PYTHON or ./dev demo first)")
        return
    fake = folder / "nvml.json"
    shutil.copy(ROOT / "tests/fakes/four-gpus.json", fake)
    env = {"LD_LIBRARY_PATH": str(BUILD / "fakes"), "RIGWISE_FAKE_NVML": str(fake)}
    argv = example_argv(python, folder / "work", folder / "out", steps)
    running = subprocess.Popen([str(RIGWISE), "run", "--quiet", "--name", "cost", "--", *argv], cwd=folder,
                               env=dict(os.environ, RIGWISE_RUNS=str(folder / "runs"), **env),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(15)
    while running.poll() is None:
        for action in ("pause", "resume"):
            rigwise(folder, "runs", action, "cost", check=False)
            time.sleep(block_s * (0.9 + 0.2 * random.random()))
    run = next((folder / "runs").glob("*-cost"))
    times = [float(line.split(",")[0]) for line in (run / "steps.csv").read_text().splitlines()[1:]
             if ",train," in line]
    marks = [(float(f[0]), f[3]) for f in (line.split(",") for line in (run / "events.csv").read_text().splitlines()[1:])
             if f[2] == "recorder" and f[3] in ("paused", "resumed")]
    if len(marks) < 8:
        print(f"cost: only {len(marks)} marks of pausing; steps: {len(times)}")
        return
    blocks = []  # (paused?, mean log step time)
    for (start, word), (end, _) in zip(marks, marks[1:]):
        inside = [math.log(b - a) for a, b in zip(times, times[1:]) if a > start + 0.5 and b < end and b > a]
        if len(inside) >= 5:
            blocks.append((word == "paused", statistics.median(inside)))
    # each recorded block against the mean of its paused neighbours: slow drift cancels
    effects = [blocks[i][1] - (blocks[i - 1][1] + blocks[i + 1][1]) / 2 for i in range(1, len(blocks) - 1)
               if not blocks[i][0] and blocks[i - 1][0] and blocks[i + 1][0]]
    info = json.loads((run / "run.json").read_text())
    wall, spent = info["ending"]["wall_s"], info["recorder"]
    if len(effects) >= 3:
        mean, half = t_interval(effects)
        print(f"cost: slowdown {100 * mean:+.2f} % ± {100 * half:.2f} ({len(effects)} triples of blocks, {len(times)} steps)"
              "   bar: 0.3 %, upper end 1 %")
    # the recorder slept in the paused half: its share is of the time it was awake
    awake = wall - sum(b[0] - a[0] for a, b in zip(marks, marks[1:]) if a[1] == "paused")
    print(f"cost: recorder {100 * spent['cpu_s'] / awake:.2f} % of a core, keeper {100 * spent.get('keeper_cpu_s', 0) / wall:.2f} %,"
          f" memory {spent['peak_rss_bytes'] / 2**20:.1f} MiB, longest tick {1000 * spent['longest_tick_s']:.1f} ms"
          "   bar: 0.5 %, 24 MiB")


def rows_of(path):
    lines = [line.split(",") for line in path.read_text().splitlines()]
    return [dict(zip(lines[0], line)) for line in lines[1:]]


def windows(folder, steps=int(os.environ.get("RIGWISE_BENCH_STEPS", "900")), around_s=6.0, after_s=6.0, rounds=6):
    """Seconds of steps lost around each window: from its warm-up until the trace is surely written, against the pace of the
    stretches before and after (paired; drift cancels)."""
    python = python_with_torch()
    if python is None:
        print("windows: skipped, no Python with torch (RIGWISE_PYTHON or ./dev demo first)")
        return
    argv = example_argv(python, folder / "work", folder / "out", steps)
    for length in ("0.5", "1.5"):
        rigwise(folder, "run", "--quiet", "--name", "windows" + length, "--profile",
                f"windows=20,first=10,every=25,percent=100,length={length}", "--", *argv)
        run = next((folder / "runs").glob("*-windows" + length))
        times = [float(row["t_s"]) for row in rows_of(run / "steps.csv") if row["kind"] == "train"]
        traced = [row for row in rows_of(run / "events.csv") if row["kind"] == "profile_window" and row["state"] == "whole"]
        lost, sizes = [], []
        for row in traced:
            begin, end = float(row["t_s"]) - 1.2, float(row["t_end_s"]) + after_s
            inside = [t for t in times if begin <= t <= end]
            beside = [b - a for a, b in zip(times, times[1:])
                      if begin - around_s <= a and b <= begin or end <= a and b <= end + around_s]
            if len(inside) < 5 or len(beside) < 10:
                continue
            lost.append((inside[-1] - inside[0]) - (len(inside) - 1) * statistics.fmean(beside))
            sizes.append(int(row["size_bytes"]))
        if len(lost) < 3:
            print(f"windows: only {len(lost)} windows of {length} s that can be compared, of {len(traced)} whole ones")
            continue
        mean, half = t_interval(lost)
        print(f"windows: {length} s: {mean:.2f} s ± {half:.2f} of steps lost a window ({len(lost)} windows, traces of"
              f" {statistics.fmean(sizes) / 1e6:.1f} MB) = {100 * mean / 600:.2f} % of ten minutes   bar: 0.5 % for all windows")
    script = folder / "exit.py"
    script.write_text(EXIT_SCRIPT)
    took = {"none": [], "windows=1,first=0,length=0.5": []}
    for _ in range(rounds):
        for words, seconds in took.items():
            done = rigwise(folder, "run", "--quiet", "--name", "exit", "--profile", words, "--", python, str(script))
            run = max((folder / "runs").glob("*-exit*"))
            wall = json.loads((run / "run.json").read_text())
            last = float(done.stdout.split()[-1])
            seconds.append(wall["start_unix_s"] + wall["ending"]["wall_s"] - last)
    plain, traced = took.values()
    mean, half = t_interval([b - a for a, b in zip(plain, traced)])
    print(f"windows: the exit of a process that was traced takes {mean:+.2f} s ± {half:.2f} longer ({rounds} pairs,"
          f" plain {statistics.fmean(plain):.2f} s)")


# Trains for 20 s: its window is long over when it ends, at an instant that falls anywhere between two turns of libkineto's thread.
EXIT_SCRIPT = """
import random, time, torch
torch.set_num_threads(1)
model = torch.nn.Linear(64, 64)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
end = time.time() + 20 + random.random()
step = 0
while time.time() < end:
    model(torch.randn(8, 64)).square().mean().backward()
    optimizer.step()
    step += 1
    time.sleep(0.02)
    if step % 10 == 0:
        print(f"step {step} loss 1.0", flush=True)
print("last", time.time(), flush=True)
"""


def train_runtime(output):
    """Seconds of the whole training, as the Trainer's closing dict states them ('39.7' or 39.7). Its other dicts may hold a
    train_runtime too, so far; only the closing one has samples per second."""
    found = re.findall(r"'train_runtime': '?([0-9.]+)'?, 'train_samples_per_second'", output)
    return float(found[-1]) if found else None


def peer(folder, rounds=int(os.environ.get("RIGWISE_BENCH_ROUNDS", "8")), steps=120):
    """Whole runs in turn, plain, under rigwise and under TraceML; the same script, unedited.

    TraceML starts it through torchrun, where accelerate gives a lone rank all cores unless OMP_NUM_THREADS is set: it is.
    """
    python, traceml = python_with_torch(), os.environ.get("RIGWISE_TRACEML")
    if python is None or traceml is None:
        print("peer: skipped, needs RIGWISE_PYTHON (torch, transformers, peft) and RIGWISE_TRACEML=/path/to/traceml,"
              " a program of the same environment (package traceml-ai)")
        return
    argv = example_argv(python, folder / "work", folder / "out", steps)
    forms = {"plain": argv,
             "rigwise": [str(RIGWISE), "run", "--quiet", "--name", "peer", "--", *argv],
             "TraceML": [traceml, "run", argv[1], "--logs-dir", str(folder / "traceml"), "--args", *argv[2:]]}
    seconds = {name: [] for name in forms}
    names = list(forms)
    for number in range(rounds):
        for name in names[number % 3:] + names[:number % 3]:
            done = subprocess.run(forms[name], cwd=folder, capture_output=True, text=True,
                                  env=dict(os.environ, RIGWISE_RUNS=str(folder / "runs"), OMP_NUM_THREADS="1"))
            kept = sorted((folder / "traceml").glob("*/nodes/node_0/training.stdout.log")) if name == "TraceML" else []
            took = train_runtime(done.stdout + done.stderr + "".join(f.read_text(errors="replace") for f in kept[-1:]))
            if done.returncode != 0 or took is None:
                print(f"peer: {name}: exit {done.returncode}, no train_runtime: {done.stderr[-400:]}")
                return
            seconds[name].append(took)
    for name in ("rigwise", "TraceML"):
        mean, half = t_interval([math.log(b / a) for a, b in zip(seconds["plain"], seconds[name])])
        print(f"peer: {name}: training takes {100 * mean:+.2f} % ± {100 * half:.2f} longer than plain"
              f" ({rounds} rounds of {steps} steps, plain {statistics.fmean(seconds['plain']):.1f} s)")


def one_side(folder, name, extra):
    rigwise(folder, "run", "--quiet", "--name", name, "--", *WORKLOAD, "--extra-percent", str(extra))


def trial(folder, number, runs_a_side, extra):
    """One repetition: runs in the order A B B A A B …, then the verdict."""
    a, b = f"a{number}", f"b{number}"
    for i in range(2 * runs_a_side):
        second = i % 4 in (1, 2)
        one_side(folder, b if second else a, extra if second else 0)
    done = rigwise(folder, "compare", "--json", a, "--", b)
    return json.loads(done.stdout)


def alarms(folder, repetitions=20):
    verdicts = [trial(folder, n, 3, 0)["verdict"] for n in range(repetitions)]
    false = sum(v in ("faster", "slower") for v in verdicts)
    print(f"alarms: {false} false of {repetitions} ({', '.join(f'{v} {verdicts.count(v)}' for v in sorted(set(verdicts)))})"
          "   bar: at most 1")


def planted(folder, repetitions=20, extra=5.0):
    pilot = trial(folder, 900, 3, extra)
    needed = (pilot.get("advice") or {}).get("runs_for_5_percent") or pilot.get("runs_needed") or 3
    runs = max(3, min(int(needed), 12))
    results = [trial(folder, n, runs, extra) for n in range(repetitions)]
    found = sum(r["verdict"] == "slower" for r in results)
    effects = [r["effect"]["percent"] for r in results if r.get("effect")]
    if not effects:
        print(f"planted: no effect was measured: {results[0].get('verdict_why')}")
        return
    print(f"planted: {found} of {repetitions} found with {runs} runs a side (pilot: {pilot['verdict']}, advised {needed});"
          f" effect {statistics.fmean(effects):+.1f} %, sd {statistics.pstdev(effects):.1f}   bar: at least 18")


def kills(folder):
    env = dict(os.environ, RIGWISE=str(RIGWISE), RIGWISE_BUILD=str(BUILD), RIGWISE_SOURCE=str(ROOT), RIGWISE_KILLS="200")
    for script in sorted((ROOT / "tests/system").glob("record_kill*_test.py")):
        done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True)
        print(f"kills: {script.name}: exit {done.returncode}: {(done.stdout + done.stderr).strip().splitlines()[-1]}")


def main(words):
    parts = {"big": big, "read": read, "nccl": nccl, "cost": cost, "windows": windows, "peer": peer, "alarms": alarms,
             "planted": planted, "kills": kills}
    chosen = words or ["big", "read", "nccl", "cost", "kills"]
    for word in chosen:
        if word not in parts:
            raise SystemExit(f"bench: no part '{word}'; parts: {' '.join(parts)}")
    for word in chosen:
        with tempfile.TemporaryDirectory(prefix="rigwise-bench-") as folder:
            parts[word](pathlib.Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
