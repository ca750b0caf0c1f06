"""The table of scenarios: which training, what is planted, how much. README.md says what each should show, and why.

Severities are made for a step of about 80 ms; what they come to is measured in each run, so a slower machine shifts a
severity and spoils nothing. Holes in commands: {python}, {here} (workloads), {out}, {slow}, {model}, {train}, {held},
{torchrun}, {engine}, {engine_model}, {text}, {netns0}, {netns1}.
"""
import dataclasses

import inject

LOADER = ["{python}", "{here}/train_loader.py", "--out", "{out}"]
PLAIN = ["{python}", "{here}/train_plain.py", "--out", "{out}"]
HF = ["{python}", "{here}/train_hf.py", "--model", "{model}", "--data", "{train}", "--out", "{out}"]
PAIR = ["{torchrun}", "--standalone", "--nproc_per_node", "2"]
ENGINE = ["{engine}", "train", "--model", "{engine_model}", "--data", "{text}", "--seq", "128", "--threads", "1", "--lr", "1e-3",
          "--out", "{out}", "--global-batch", "4"]
EVAL = ["--eval-data", "{held}"]


@dataclasses.dataclass
class Scenario:
    name: str
    argv: list
    family: str
    severity: int = 0
    planted: tuple = ()  # classes that the fault belongs to
    ranks: int = 1
    injector: object = None  # makes one
    terminal: bool = True  # started from a terminal, else with its output in a file
    needs: tuple = ()  # hf, engine


def healthy():
    bar, quiet = ["--style", "bar"], ["--style", "pairs"]
    yield Scenario("healthy.plain", PLAIN + ["--iters", "500", "--save-every", "200", "--eval-every", "200"], "healthy")
    yield Scenario("healthy.loader-w0", LOADER + ["--steps", "400", *bar, "--save-every", "200"], "healthy")
    yield Scenario("healthy.loader-w2", LOADER + ["--steps", "400", "--workers", "2", *quiet, "--eval-every", "200"], "healthy")
    yield Scenario("healthy.loader-pipe", LOADER + ["--steps", "400", "--workers", "1", "--style", "json"], "healthy",
                   terminal=False)
    yield Scenario("healthy.hf-w0", HF + EVAL + ["--max-steps", "400", "--save-steps", "200", "--eval-steps", "200"],
                   "healthy", needs=("hf",))
    yield Scenario("healthy.hf-w2", HF + ["--max-steps", "400", "--workers", "2", "--logging-steps", "10"], "healthy",
                   needs=("hf",))
    yield Scenario("healthy.ddp", PAIR + LOADER[1:] + ["--steps", "300", "--style", "prose"], "healthy", ranks=2)
    yield Scenario("healthy.hf-ddp", PAIR + HF[1:] + ["--max-steps", "200"], "healthy", ranks=2, needs=("hf",))
    yield Scenario("healthy.engine", ENGINE + ["--steps", "150", "--ranks", "1"], "healthy", needs=("engine",))
    yield Scenario("healthy.engine-ddp", ENGINE + ["--steps", "150", "--strategy", "ddp:2", "--ranks", "2"], "healthy", ranks=2,
                   needs=("engine",))


def inputs():
    # A batch takes about 80 ms of arithmetic; what the reading takes beyond that is exposed where workers read ahead.
    for severity, share in enumerate((0.15, 0.25, 0.4, 0.55, 0.7), 1):
        ahead = 0.08 / (1 - share)  # seconds a batch must take for that share to be exposed
        inline = 0.08 * share / (1 - share)
        steps = str(int(30 / ahead))
        rounds = 1 / 0.000042  # rounds of text cleaning a second
        for workers in (0, 1, 2):
            took = inline if workers == 0 else ahead * workers
            style = ("pairs", "bar", "dict")[workers]
            base = LOADER + ["--steps", steps, "--workers", str(workers), "--style", style]
            yield Scenario(f"read.loader-w{workers}.{severity}", base + ["--read-s", f"{took / 8:.4f}"], "read", severity,
                           ("input",))
            if workers < 2:  # two busy workers and the training share two cores: host, not input alone
                yield Scenario(f"prep.loader-w{workers}.{severity}", base + ["--prep-rounds", str(int(took * rounds / 8))],
                               "prep", severity, ("input",))
            hf = HF + ["--max-steps", steps, "--workers", str(workers)]
            yield Scenario(f"read.hf-w{workers}.{severity}", hf + ["--read-s", f"{took / 4:.4f}"], "read", severity, ("input",),
                           needs=("hf",))
        yield Scenario(f"prep.loader-w2.{severity}", LOADER + ["--steps", steps, "--workers", "2", "--prep-rounds",
                       str(int(2 * ahead * rounds / 8))], "prep", severity, ("input",))
        yield Scenario(f"read.plain.{severity}", PLAIN + ["--iters", steps, "--read-s", f"{inline:.4f}"], "read", severity,
                       ("input",))
        yield Scenario(f"prep.plain.{severity}", PLAIN + ["--iters", steps, "--prep-rounds", str(int(inline * rounds))], "prep",
                       severity, ("input",))
        yield Scenario(f"prep.hf-w0.{severity}", HF + ["--max-steps", steps, "--prep-rounds", str(int(inline * rounds / 4))],
                       "prep", severity, ("input",), needs=("hf",))


def saves():
    # loader: 16 MB a save with the optimizer; plain 11 MB; hf 1 MB of adapters and their moments.
    for severity, megabytes_per_s in enumerate((16, 8, 4, 2.5, 1.5), 1):
        disk = lambda rate=megabytes_per_s * 1e6: inject.SlowDisk(rate)  # noqa: E731
        yield Scenario(f"slowdisk.loader.{severity}", LOADER + ["--steps", "300", "--save-every", "60", "--save-dir", "{slow}",
                       "--style", "bar"], "slowdisk", severity, ("checkpoint",), injector=disk)
        yield Scenario(f"slowdisk.plain.{severity}", PLAIN + ["--iters", "400", "--save-every", "60", "--save-dir", "{slow}"],
                       "slowdisk", severity, ("checkpoint",), injector=disk)
        slow_hf = lambda rate=megabytes_per_s * 1e5: inject.SlowDisk(rate)  # noqa: E731
        yield Scenario(f"slowdisk.hf.{severity}", HF[:-1] + ["{slow}", "--max-steps", "300", "--save-steps", "60"], "slowdisk",
                       severity, ("checkpoint",), injector=slow_hf, needs=("hf",))


def evaluations():
    for severity, batches in enumerate((20, 40, 80, 140, 220), 1):
        yield Scenario(f"eval.loader.{severity}", LOADER + ["--steps", "300", "--eval-every", "60", "--eval-batches",
                       str(batches)], "eval", severity, ("evaluation",))
        yield Scenario(f"eval.plain.{severity}", PLAIN + ["--iters", "400", "--eval-every", "66", "--eval-iters",
                       str(2 * batches)], "eval", severity, ("evaluation",))
        yield Scenario(f"eval.hf.{severity}", HF + EVAL + ["--max-steps", "300", "--eval-steps", "60", "--eval-rows",
                       str(8 * batches)], "eval", severity, ("evaluation",), needs=("hf",))


def starts_and_ends():
    for severity, seconds in enumerate((10, 20, 35, 50, 70), 1):
        yield Scenario(f"start.loader.{severity}", LOADER + ["--steps", "150", "--start-s", str(seconds)], "start", severity,
                       ("startup",))
        yield Scenario(f"start.hf.{severity}", HF + ["--max-steps", "150", "--start-rounds", str(int(seconds / 0.000042))],
                       "start", severity, ("startup",), needs=("hf",))
        yield Scenario(f"end.plain.{severity}", PLAIN + ["--iters", "300", "--end-s", str(seconds / 2)], "end", severity,
                       ("teardown",))


def ranks():
    pair = PAIR + LOADER[1:]
    for severity, rounds in enumerate((100, 200, 400, 700, 1200), 1):
        yield Scenario(f"slowrank.ddp.{severity}", pair + ["--steps", "200", "--slow-rank", "1", "--slow-rounds", str(rounds)],
                       "slowrank", severity, ("compute",), ranks=2)
    for severity, length in enumerate((0.5, 1.0, 1.5, 2.0, 3.0), 1):
        stop = lambda length=length, rank=1: inject.Stop(length, 4.0, rank)  # noqa: E731
        yield Scenario(f"stop.ddp.{severity}", pair + ["--steps", "200", "--style", "dict"], "stop", severity, ("host",),
                       ranks=2, injector=stop)
        yield Scenario(f"stop.plain.{severity}", PLAIN + ["--iters", "350"], "stop", severity, ("host",),
                       injector=lambda length=length: inject.Stop(length, 4.0, 0))
    for severity, megabit in enumerate((1600, 800, 400, 200, 100), 1):
        yield Scenario(f"link.ddp.{severity}", ["bash", "{here}/two_hosts.sh", "{torchrun}", "{netns0}", "{netns1}", *LOADER[1:],
                       "--steps", "80"], "link", severity, ("sync",), ranks=2,
                       injector=lambda megabit=megabit: inject.SlowLink(megabit))


def pairs():
    """Faults of both ranks, or of rank 0 while the other waits."""
    pair, hf = PAIR + LOADER[1:], PAIR + HF[1:]
    for severity, share in enumerate((0.15, 0.25, 0.4, 0.55, 0.7), 1):
        inline = 0.11 * share / (1 - share)
        steps = str(int(25 * (1 - share) / 0.11))
        yield Scenario(f"read.ddp.{severity}", pair + ["--steps", steps, "--read-s", f"{inline / 8:.4f}"], "read", severity,
                       ("input",), ranks=2)
        yield Scenario(f"read.hf-ddp.{severity}", hf + ["--max-steps", steps, "--read-s", f"{inline / 4:.4f}"], "read", severity,
                       ("input",), ranks=2, needs=("hf",))
    for severity, megabytes_per_s in enumerate((16, 8, 4, 2.5, 1.5), 1):
        yield Scenario(f"slowdisk.ddp.{severity}", pair + ["--steps", "150", "--save-every", "30", "--save-dir", "{slow}", "--style",
                       "dict"], "slowdisk", severity, ("checkpoint",), ranks=2,
                       injector=lambda rate=megabytes_per_s * 1e6: inject.SlowDisk(rate))


def crowds():
    for severity, (count, duty) in enumerate(((1, 0.2), (1, 0.4), (1, 0.7), (1, 1.0), (2, 1.0)), 1):
        hogs = lambda count=count, duty=duty: inject.Hogs(count, duty)  # noqa: E731
        yield Scenario(f"hogs.loader.{severity}", LOADER + ["--steps", "300", "--style", "prose"], "hogs", severity, ("host",),
                       injector=hogs)
        yield Scenario(f"hogs.plain.{severity}", PLAIN + ["--iters", "350"], "hogs", severity, ("host",), injector=hogs)
        both = lambda count=count, duty=duty: inject.Hogs(2 * count, duty)  # noqa: E731
        yield Scenario(f"hogs.ddp.{severity}", PAIR + LOADER[1:] + ["--steps", "150"], "hogs", severity, ("host",), ranks=2,
                       injector=both)


def machines():
    for severity, (share, loss) in enumerate(((0.5, 0.25), (0.7, 0.3), (0.8, 0.45), (0.9, 0.5), (0.9, 0.65)), 1):
        yield Scenario(f"throttle.loader.{severity}", LOADER + ["--steps", "500", "--style", "bar"], "throttle", severity,
                       ("throttle",), injector=lambda share=share, loss=loss: inject.HeldClocks(share, loss))
    for severity, keep_frac in enumerate((0.9, 0.8, 0.7, 0.6, 0.5), 1):
        yield Scenario(f"memory.plain.{severity}", PLAIN + ["--iters", "250", "--table-mb", "600"], "memory", severity,
                       ("memory",), injector=lambda keep_frac=keep_frac: inject.LittleMemory(keep_frac))


def engines():
    full = ENGINE + ["--method", "full", "--ranks", "1"]  # a save is 26 MB
    for severity, megabytes_per_s in enumerate((30, 15, 8, 5, 3), 1):
        yield Scenario(f"slowdisk.engine.{severity}", full[:full.index("--out") + 1] + ["{slow}/out"]
                       + full[full.index("--out") + 2:] + ["--steps", "150", "--save-every", "50"], "slowdisk", severity,
                       ("checkpoint",), injector=lambda rate=megabytes_per_s * 1e6: inject.SlowDisk(rate), needs=("engine",))
    for severity, length in enumerate((0.5, 1.0, 1.5, 2.0, 3.0), 1):
        yield Scenario(f"stop.engine.{severity}", full + ["--steps", "150"], "stop", severity, ("host",),
                       injector=lambda length=length: inject.Stop(length, 4.0, 0), needs=("engine",))
        yield Scenario(f"stop.engine-ddp.{severity}", ENGINE + ["--steps", "150", "--strategy", "ddp:2", "--ranks", "2"], "stop",
                       severity, ("host",), ranks=2, injector=lambda length=length: inject.Stop(length, 4.0, 1),
                       needs=("engine",))
    for severity, (count, duty) in enumerate(((1, 0.2), (1, 0.4), (1, 0.7), (1, 1.0), (2, 1.0)), 1):
        yield Scenario(f"hogs.engine.{severity}", full + ["--steps", "150"], "hogs", severity, ("host",),
                       injector=lambda count=count, duty=duty: inject.Hogs(count, duty), needs=("engine",))


def mixed():
    for severity, (read_s, megabytes_per_s) in enumerate(((0.004, 3), (0.008, 3), (0.004, 1.5), (0.012, 8), (0.002, 1.5)), 1):
        yield Scenario(f"mixed.read-disk.{severity}", LOADER + ["--steps", "200", "--save-every", "40", "--save-dir", "{slow}",
                       "--read-s", str(read_s)], "mixed", severity, ("input", "checkpoint"),
                       injector=lambda rate=megabytes_per_s * 1e6: inject.SlowDisk(rate))
    for severity, (batches, duty) in enumerate(((40, 0.3), (80, 0.3), (40, 0.8), (100, 0.8), (150, 0.5)), 1):
        yield Scenario(f"mixed.eval-hogs.{severity}", PLAIN + ["--iters", "300", "--eval-every", "60", "--eval-iters",
                       str(2 * batches)], "mixed", severity, ("evaluation", "host"),
                       injector=lambda duty=duty: inject.Hogs(1, duty))


def all_scenarios():
    table = {}
    for family in (healthy, inputs, saves, evaluations, starts_and_ends, ranks, pairs, crowds, machines, engines, mixed):
        for scenario in family():
            assert scenario.name not in table, scenario.name
            table[scenario.name] = scenario
    return table
