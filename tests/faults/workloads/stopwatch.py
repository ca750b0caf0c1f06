"""What a rank's seconds went to, by its own account: the ground truth that a ledger is held against.

A script says what it begins (`watch.now("input")`), as many training scripts do for their own throughput line. Kept for each
state: wall seconds, the seconds for which the main thread was ready and had no core, and those for which it ran (schedstat). What a planted
fault really took is counted by `planted(class)`. Nothing is printed; without RIGWISE_FAULT_TRUTH nothing is written.

    RIGWISE_FAULT_TRUTH=/path/of/a/folder   gets rank0.json, rank1.json, …; rank0.began once the third step has ended

Seconds are of CLOCK_MONOTONIC. States: startup (from the start of the process), input, compute, sync, checkpoint, evaluation,
teardown.
"""
import atexit
import contextlib
import json
import os
import threading
import time

RANK = int(os.environ.get("RANK", "0"))
CLOSED = ("startup", "checkpoint", "evaluation", "teardown")  # what happens inside them stays theirs


def process_start():
    """Of this process on CLOCK_MONOTONIC, from the boot clock's ticks: as exact as those, 10 ms."""
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return ticks / os.sysconf("SC_CLK_TCK") - since_boot


class Stopwatch:
    def __init__(self):
        self.folder = os.environ.get("RIGWISE_FAULT_TRUTH")
        self.owner = os.getpid()
        self.state = "startup"
        self.totals = {}
        self.steps = []
        self.line = []  # [end, state] of each stretch: where, not only how much
        self.step = {}
        self.planted_s = {}
        self.lock = threading.Lock()
        self.sched = None
        if not self.folder:
            return
        self.since = process_start()
        self.delay = self.ran = 0.0
        self.sched = os.open(f"/proc/self/task/{self.owner}/schedstat", os.O_RDONLY)
        atexit.register(self.write)

    def flush(self, instead=None):
        """Charge the time since the last call to the present state, or to another one that it turned out to be."""
        if self.sched is None or os.getpid() != self.owner:
            return
        now = time.monotonic()
        ran, delay = (int(word) / 1e9 for word in os.pread(self.sched, 100, 0).split()[:2])
        cls = instead or self.state
        for table in (self.totals, self.step):
            row = table.setdefault(cls, [0.0, 0.0, 0.0])
            row[0] += now - self.since
            row[1] += delay - self.delay
            row[2] += ran - self.ran
        if self.line and self.line[-1][1] == cls:
            self.line[-1][0] = round(now, 4)
        else:
            self.line.append([round(now, 4), cls])
        self.since, self.delay, self.ran = now, delay, ran

    def now(self, state):
        self.flush()
        self.state = state

    @contextlib.contextmanager
    def during(self, state):
        """The same for a block; inside a start-up, save or evaluation a wait for data or for a rank is part of it."""
        before = self.state
        keep = before in CLOSED and state in ("input", "sync")
        self.now(before if keep else state)
        try:
            yield
        finally:
            self.now(before)

    def step_end(self):
        self.flush()
        if self.sched is None:
            return
        self.steps.append([round(self.since, 4), {k: [round(x, 5) for x in v] for k, v in self.step.items()}])
        self.step = {}
        if len(self.steps) == 3:
            path = os.path.join(self.folder, f"rank{RANK}.began")
            with open(path + ".part", "w") as file:
                json.dump({"pid": self.owner, "t": self.since}, file)
            os.rename(path + ".part", path)

    @contextlib.contextmanager
    def planted(self, cls):
        """Seconds that were added on purpose; in a loader's worker they go to a file of its own."""
        start = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - start
            if os.getpid() == self.owner:
                with self.lock:
                    self.planted_s[cls] = self.planted_s.get(cls, 0.0) + took
            elif self.folder:
                with open(os.path.join(self.folder, f"rank{RANK}.worker{os.getpid()}"), "a") as file:
                    file.write(f"{cls} {took:.6f}\n")

    def write(self):
        if self.sched is None or os.getpid() != self.owner:
            return
        self.flush()
        report = {"rank": RANK, "pid": self.owner, "written": self.since, "totals": self.totals, "steps": self.steps,
                  "after_steps": self.step, "line": self.line, "planted_s": self.planted_s}
        path = os.path.join(self.folder, f"rank{RANK}.json")
        with open(path + ".part", "w") as file:
            json.dump(report, file)
        os.rename(path + ".part", path)


watch = Stopwatch()
