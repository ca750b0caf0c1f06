"""The stopwatch of rigwise-engine, from outside: its own phases of each step (log.jsonl), the instants at which they were
written, and the run-queue delay of each rank's main thread between them. Leaves the same reports as workloads/stopwatch.py.

Instants are as exact as the look at the files is frequent (25 ms); they shift a step's end, not what the steps sum to.
"""
import contextlib
import json
import os
import pathlib
import threading
import time


def words_of(pid, name):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0")
    return []


def find_ranks(out, count):
    """Rank → pid of the processes that train into `out`: with one rank the program itself, else those with RANK set."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        words = words_of(name, "cmdline")
        if b"--out" not in words or words[words.index(b"--out") + 1] != os.fsencode(out) or b"train" not in words[1:2]:
            continue
        set_rank = [w[5:] for w in words_of(name, "environ") if w.startswith(b"RANK=")]
        if count == 1:
            found[0] = int(name)
        elif set_rank:
            found[int(set_rank[0])] = int(name)
    return found


class Rank:
    def __init__(self, rank, pid, folder, log):
        self.rank, self.pid, self.folder, self.log = rank, pid, folder, log
        self.read, self.steps, self.step = 0, [], {}
        self.sched = open(f"/proc/{pid}/task/{pid}/schedstat", "rb", buffering=0)
        self.since, self.delay = None, 0.0

    def look(self):
        """Takes in what the log gained; true where the rank's process has gone."""
        try:
            self.sched.seek(0)
            delay = int(self.sched.read(100).split()[1]) / 1e9
        except (OSError, IndexError):
            delay = None
        now = time.monotonic()
        if self.log.exists():
            with open(self.log, "rb") as file:
                file.seek(self.read)
                data = file.read()
            whole = data[:data.rfind(b"\n") + 1]
            self.read += len(whole)
            for line in whole.splitlines():
                self.take(json.loads(line), now, self.delay if delay is None else delay)
        return delay is None

    def add(self, cls, seconds, late=0.0):
        row = self.step.setdefault(cls, [0.0, 0.0])
        row[0] += seconds
        row[1] += late

    def take(self, entry, now, delay):
        if entry.get("kind") == "checkpoint_saved":
            self.add("checkpoint", entry["checkpoint_s"])
        elif "step_time_s" in entry:
            if self.since is None:
                self.since, late = now - entry["step_time_s"], 0.0
            else:
                late = max(0.0, delay - self.delay)
            known = {"input": entry["data_s"], "sync": entry["sync_s"]}
            for cls, seconds in known.items():
                self.add(cls, seconds)
            rest = max(0.0, now - self.since - sum(values[0] for values in self.step.values()))
            self.add("compute", rest, min(late, rest))
            self.steps.append([now, {cls: list(values) for cls, values in self.step.items()}])
            self.step, self.since = {}, now
            if len(self.steps) == 3:
                path = self.folder / f"rank{self.rank}.began"
                path.with_suffix(".part").write_text(json.dumps({"pid": self.pid, "t": now}))
                path.with_suffix(".part").rename(path)
        self.delay = delay

    def report(self):
        after_s = sum(values[0] for values in self.step.values())  # the last save
        return {"rank": self.rank, "pid": self.pid, "written": self.since + after_s, "steps": self.steps, "totals": {},
                "after_steps": self.step, "line": [], "planted_s": {}}


class EngineWatch:
    def __init__(self, folder, out, count, child):
        self.folder, self.out, self.count, self.child = pathlib.Path(folder), pathlib.Path(out), count, child
        self.ranks, self.thread = [], threading.Thread(target=self._follow)
        self.thread.start()

    def _follow(self):
        while self.child.poll() is None and len(self.ranks) < self.count:
            time.sleep(0.025)
            pids = find_ranks(self.out, self.count)
            if len(pids) == self.count:
                with contextlib.suppress(OSError):
                    self.ranks = [Rank(rank, pid, self.folder, self.out / ("log.jsonl" if rank == 0 else f"log.rank{rank}.jsonl"))
                                  for rank, pid in sorted(pids.items())]
        while self.ranks and not all([rank.look() for rank in self.ranks]) and self.child.poll() is None:
            time.sleep(0.025)
        for rank in self.ranks:
            rank.look()
            if rank.steps:
                (self.folder / f"rank{rank.rank}.json").write_text(json.dumps(rank.report()))

    def join(self):
        self.thread.join(30)
