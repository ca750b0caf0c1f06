"""From the ranks' own stopwatches to the eleven rows that a ledger should show, and how far a ledger is off.

Run level follows the critical path: in each step the rank that waited least for the others. Seconds for which a rank's main
thread was ready and had no core are host, and so are those for which it was stopped. README.md has the reasons.
"""
import json
import pathlib
import re

CLASSES = ["startup", "input", "compute", "throttle", "sync", "host", "memory", "checkpoint", "evaluation", "teardown",
           "unexplained"]
ROOT = pathlib.Path(__file__).resolve().parents[2]


def thresholds():
    """Class → share of the wall time above which it is the bottleneck, from the documented table."""
    found = re.findall(r"^\| bottleneck-(\w+) \|[^|]*\| (\d+) % of the wall time", (ROOT / "docs/ledger.md").read_text(),
                       re.M)
    if len(found) < 8:
        raise RuntimeError("docs/ledger.md: no table of bottleneck thresholds")
    return {cls: int(percent) / 100 for cls, percent in found}


def overlap(spans, low, high):
    return sum(max(0.0, min(high, end) - max(low, start)) for start, end in spans)


def stopped_in(line, stops, start, end):
    """Seconds for which a rank stood stopped between two instants, by the state it was in; without a line all is arithmetic."""
    if not line:
        return {"compute": overlap(stops, start, end)}
    seconds, begin = {}, 0.0
    for until, state in line:
        low, high = max(begin, start), min(until, end)
        begin = until
        if high > low:
            seconds[state] = seconds.get(state, 0.0) + overlap(stops, low, high)
    return seconds


def rows_of_step(step, injected, stopped, start, end):
    """One rank's step, split: what ran late inside its arithmetic is host, and what stood stopped there or on the way to others.

    Where memory was taken away, what the arithmetic slept is memory: without that it never sleeps on a CPU.
    """
    rows = {cls: values[0] for cls, values in step.items()}
    late = step.get("compute", [0, 0])[1]
    for cls in ("compute", "sync"):
        lost = min(stopped.get(cls, 0.0) + (late if cls == "compute" else 0.0), rows.get(cls, 0.0))
        if lost > 0:
            rows[cls] -= lost
            rows["host"] = rows.get("host", 0.0) + lost
    if injected.get("memory_taken"):
        wall, late, ran = step.get("compute", (0, 0, 0))
        asleep = max(0.0, wall - late - ran)
        rows["compute"] -= asleep
        rows["memory"] = asleep
    for low, high, lost_frac in injected.get("held", []):  # clocks held down
        lost = min(lost_frac * overlap([[low, high]], start, end), rows.get("compute", 0.0))
        rows["compute"] = rows.get("compute", 0.0) - lost
        rows["throttle"] = rows.get("throttle", 0.0) + lost
    return rows


def add(into, rows):
    for cls, seconds in rows.items():
        into[cls] = into.get(cls, 0.0) + seconds


def rank_steps(rank, injected):
    """[(end, rows)] of a rank; the start-up's seconds, which the first step carries, stay apart."""
    stops = injected.get("stops", []) if injected.get("stopped_rank") == rank["rank"] else []
    steps, before, first = [], None, None
    for end, step in rank["steps"]:
        step = dict(step)
        first = step.pop("startup", None) or first
        length = sum(values[0] for values in step.values())
        start = end - length if before is None else before
        steps.append((end, rows_of_step(step, injected, stopped_in(rank.get("line"), stops, start, end), start, end)))
        before = end
    return steps


def true_rows(ranks, injected, wall_s, start):
    """Rows of the run, and of each rank, from the reports of all ranks; the run's wall time and its zero (run.json)."""
    per_rank, all_steps = {}, []
    for rank in ranks:
        steps = rank_steps(rank, injected)
        all_steps.append(steps)
        rows = {}
        for _, step in steps:
            add(rows, step)
        length = sum(rows.values())
        rows["startup"] = steps[-1][0] - length - start if steps else 0.0
        add(rows, {cls: values[0] for cls, values in rank["after_steps"].items() if cls != "startup"})
        rows["teardown"] = rows.get("teardown", 0.0) + start + wall_s - rank["written"]
        per_rank[rank["rank"]] = rows

    run = {}
    for steps in zip(*all_steps):
        add(run, min((rows for _, rows in steps), key=lambda rows: rows.get("sync", 0.0)))
    # The steps of the critical path leave a remainder only where a rank was late before the first step or after the last.
    slowest = max(ranks, key=lambda rank: sum(v[0] for c, v in rank["after_steps"].items() if c not in ("startup", "teardown")))
    add(run, {cls: values[0] for cls, values in slowest["after_steps"].items() if cls != "startup"})
    run["teardown"] = run.get("teardown", 0.0) + start + wall_s - slowest["written"]
    run["startup"] = wall_s - sum(run.values())
    return run, per_rank


def expected_bottleneck(rows, wall_s):
    """The classes that a right answer may name: the largest above its threshold, and near ties with it.

    Between 0.8 and 1.25 of a threshold both sides are right, and so is a class within a tenth of the largest: no ledger (and no
    stopwatch) knows a share better than that.
    """
    limits = thresholds()
    share = {cls: rows.get(cls, 0.0) / wall_s for cls in limits}
    maybe = {cls for cls, part in share.items() if part >= 0.8 * limits[cls]}
    surely = [part for cls, part in share.items() if part >= 1.25 * limits[cls]]
    if not surely:
        return sorted(maybe | {"compute"})
    return sorted(cls for cls in maybe if share[cls] >= 0.9 * max(surely))


def score_row(row, seconds):
    """How a ledger's row stands to the truth."""
    known = row is not None and row.get("seconds") is not None
    if not known:
        return {"known": False, "truth_s": round(seconds, 3)}
    low = row["low_s"] if row.get("low_s") is not None else row["seconds"]
    high = row["high_s"] if row.get("high_s") is not None else row["seconds"]
    error = row["seconds"] - seconds
    return {"known": True, "truth_s": round(seconds, 3), "ledger_s": round(row["seconds"], 3), "low_s": round(low, 3),
            "high_s": round(high, 3), "error_s": round(error, 3), "inside": low - 0.0005 <= seconds <= high + 0.0005,
            "within_tenth": abs(error) <= 0.1 * seconds,
            "narrow": row["seconds"] > 0 and (high - low) / 2 <= 0.25 * row["seconds"], "how": row.get("how")}


def score(ledger, truth, planted_classes):
    """The score of one run: bottleneck, rows, sum."""
    rows = {row["class"]: row for row in ledger["rows"]}
    wall_s = ledger["wall_s"]
    total = sum(row["seconds"] for row in ledger["rows"] if row.get("seconds") is not None)
    right = expected_bottleneck(truth, wall_s)
    named = ledger["bottleneck"]["class"]
    return {"wall_s": round(wall_s, 3), "named": named, "right": right, "hit": named in right,
            "sum_error_s": round(total - wall_s, 6), "sum_ok": abs(total - wall_s) < 0.001,
            "planted": list(planted_classes),
            "rows": {cls: score_row(rows.get(cls), truth.get(cls, 0.0)) for cls in CLASSES}}


def read_ranks(folder):
    return [json.loads(path.read_text()) for path in sorted(pathlib.Path(folder).glob("rank*.json"))]
