#!/usr/bin/env python3
"""Where the stack samples and the stopwatch disagree: seconds by (what the script was at, what its stack was taken for).

    python3 tests/faults/crossed.py FOLDER [RANK]      of a kept scenario

For whoever works on the table of stacks: prints the seconds, and for each pair that disagrees the stacks behind it.
"""
import collections
import csv
import json
import pathlib
import sys

AGREE = {"input": {"input"}, "compute": {"forward", "backward", "optimizer", "compute", "step"}, "sync": {"sync", "backward"},
         "checkpoint": {"checkpoint"}, "evaluation": {"evaluation"}, "teardown": {"teardown"}}


def main():
    folder, rank = pathlib.Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "0"
    report = json.loads((folder / f"truth/rank{rank}.json").read_text())
    run = next(iter(sorted((folder / "runs").glob("*-fault"))))
    frames, seconds, places = {}, collections.Counter(), collections.defaultdict(collections.Counter)
    for path in run.glob("profile/*.frames.csv"):
        for row in csv.DictReader(open(path)):
            frames[row["stack"]] = row["frames"]
    first = json.loads((run / "run.json").read_text())["start_monotonic_s"]
    line = report["line"]
    for path in run.glob("profile/*.stacks.csv"):
        for span in csv.DictReader(open(path)):
            if span["pid"] != str(report["pid"]):
                continue
            low, high = float(span["t_s"]) + first, float(span["t_end_s"]) + first
            begin = 0.0
            for end, state in line:
                both = min(high, end) - max(low, begin)
                begin = end
                if both > 0:
                    seconds[state, span["work"]] += both
                    places[state, span["work"]][span["stack"]] += both
    for (state, work), total in sorted(seconds.items()):
        same = work in AGREE.get(state, {work})
        print(f"{state:12} {work:14} {total:8.2f} s{'' if same else '   <-'}")
        if not same and total > 0.1:
            for stack, part in places[state, work].most_common(3):
                print(f"      {part:7.2f} s  {';'.join(frames.get(stack, '?').split(';')[-5:])}")


if __name__ == "__main__":
    main()
