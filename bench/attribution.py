#!/usr/bin/env python3
"""Planted seconds against the ledger, scenario by scenario; prints figures, asserts none (tests/faults/README.md).

    ./dev bench attribution [--only WORD…] [--resume] [--report] [--again] [--repeat N] [--work FOLDER] [--autogroup N]

--only WORD   scenarios whose name holds one of the words          --report  only print what the state file holds
--resume      go on where a former call was cut                     --again   judge the kept runs by the present rigwise
--repeat N    N runs of each healthy scenario (false alarms)

One training at a time. Results go to FOLDER/results.jsonl as they come, runs stay in FOLDER/SCENARIO. RIGWISE_TRACEML names a
traceml program of the same Python environment: it is then asked about the middle severities, where one script is the command.
"""
import argparse
import json
import os
import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/faults"))

import run as faults  # noqa: E402
import scenarios  # noqa: E402
import traceml  # noqa: E402
import truth  # noqa: E402


def in_turn(table):
    """All families early on, so that a run that was cut has seen a little of everything: severity 3 first, then 5, 1, 4, 2."""
    place = {3: 0, 0: 1, 5: 2, 1: 3, 4: 4, 2: 5}
    return sorted(table.values(), key=lambda scenario: place[scenario.severity])


def repeats(table, count):
    for scenario in in_turn(table):
        yield scenario.name, scenario
        if scenario.family == "healthy":
            for number in range(2, count + 1):
                yield f"{scenario.name}#{number}", scenario


def load(state):
    """Last result of each scenario; a half line at the end is a cut."""
    results = {}
    if state.exists():
        for line in state.read_text().splitlines():
            try:
                entry = json.loads(line)
                results[entry["scenario"]] = entry
            except (ValueError, KeyError):
                continue
    return results


def keep(state, entry):
    with open(state, "a") as file:
        file.write(json.dumps(entry) + "\n")


def percent(part, whole):
    return f"{part}/{whole} ({100 * part / whole:.0f} %)" if whole else "none"


def confusion(results):
    """Rows: what was right; columns: what was named. A right answer stands on the diagonal, also where two were right."""
    table, named = {}, set()
    for entry in results:
        right = entry["named"] if entry["hit"] else entry["right"][0]
        right, answer = right or "none", entry["named"] or "none"
        table.setdefault(right, {}).setdefault(answer, 0)
        table[right][answer] += 1
        named |= {right, answer}
    columns = [cls for cls in truth.CLASSES + ["none"] if cls in named]
    print("\nbottleneck: right (rows) against named (columns)")
    print(f"  {'':12}" + "".join(f"{cls[:11]:>12}" for cls in columns))
    for right in [cls for cls in columns if cls in table]:
        print(f"  {right:12}" + "".join(f"{table[right].get(cls, 0) or '.':>12}" for cls in columns))


def rows_report(results):
    """Seconds of the planted class, then of every row: inside the interval or within a tenth, and how wide."""
    print("\nseconds: rows against the truth (rows whose truth is below 2 % of the wall time are left out)")
    print(f"  {'class':12} {'rows':>5} {'known':>6} {'inside':>7} {'tenth':>6} {'either':>7} {'narrow':>7} {'median off':>11}")
    for cls in truth.CLASSES:
        rows = [e["rows"][cls] for e in results if e["rows"][cls]["truth_s"] >= 0.02 * e["wall_s"]]
        if not rows:
            continue
        known = [row for row in rows if row["known"]]
        off = statistics.median(abs(row["error_s"]) / row["truth_s"] for row in known) if known else float("nan")
        print(f"  {cls:12} {len(rows):5} {len(known):6} {sum(r['inside'] for r in known):7} "
              f"{sum(r['within_tenth'] for r in known):6} {sum(r['inside'] or r['within_tenth'] for r in known):7} "
              f"{sum(r['narrow'] for r in known):7} {off:11.1%}")


def report(results):
    scored = [entry for entry in results.values() if "rows" in entry]
    others = {word: [e for e in results.values() if word in e] for word in ("skipped", "failed")}
    for word, entries in others.items():
        for entry in entries:
            print(f"{entry['scenario']}: {word}: {entry[word].strip().splitlines()[-1] if entry[word].strip() else ''}")
    if not scored:
        print("attribution: nothing scored yet")
        return
    injected = [entry for entry in scored if entry["family"] != "healthy"]
    healthy = [entry for entry in scored if entry["family"] == "healthy"]
    confusion(scored)
    rows_report(scored)
    print("\nby family: right bottleneck; planted seconds inside the interval or within a tenth")
    planted = []
    for family in sorted({entry["family"] for entry in injected}):
        runs = [entry for entry in injected if entry["family"] == family]
        rows = [entry["rows"][cls] for entry in runs for cls in entry["planted"]]
        planted += rows
        fits = sum(row["known"] and (row["inside"] or row["within_tenth"]) for row in rows)
        print(f"  {family:10} {percent(sum(e['hit'] for e in runs), len(runs)):>14}   {percent(fits, len(rows)):>14}")
    fits = sum(row["known"] and (row["inside"] or row["within_tenth"]) for row in planted)
    known = [row for row in planted if row["known"]]
    quiet = [entry for entry in healthy if entry["right"] == ["compute"]]
    print(f"\nright bottleneck      {percent(sum(e['hit'] for e in injected), len(injected))} of injected runs   bar: 95 %")
    print(f"planted seconds       {percent(fits, len(planted))} inside the interval or within a tenth   bar: 90 %")
    print(f"interval widths       {percent(sum(r['narrow'] for r in known), len(known))} within ±25 % of the row   bar: 90 %")
    print(f"false alarms          {sum(e['named'] != 'compute' for e in quiet)} in {len(quiet)} healthy runs "
          f"({len(healthy) - len(quiet)} more were disturbed by the machine)   bar: 0 in 20")
    print(f"rows sum to the wall  {percent(sum(e['sum_ok'] for e in scored), len(scored))} to the millisecond   bar: all")
    loads = [entry["cpu_pressure_frac"] for entry in scored if entry.get("cpu_pressure_frac") is not None]
    if loads:
        print(f"the machine           CPU pressure (PSI some) {statistics.median(loads):.0%} of the time in the median run")
    traceml.report(scored)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--stop-after", type=float, metavar="MINUTES")
    options = faults.options_of(parser, default_build=ROOT / "build/release")
    state = options.work / "results.jsonl"
    begin = time.monotonic()
    if not (options.resume or options.report or options.again):
        state.unlink(missing_ok=True)
    results = load(state)
    program = os.environ.get("RIGWISE_TRACEML")
    for name, scenario in repeats(scenarios.all_scenarios(), options.repeat):
        if options.report or (options.only and not any(word in name for word in options.only)):
            continue
        if options.stop_after and time.monotonic() - begin > 60 * options.stop_after:
            break
        if options.again:
            folder = options.work / name
            if not (folder / "scenario.json").exists():
                continue
            try:
                entry = dict(faults.judge(folder, options.rigwise), traceml=results.get(name, {}).get("traceml"))
            except faults.Failed as why:
                entry = {"failed": str(why)}
        elif name in results and "failed" not in results[name]:
            continue
        else:
            try:
                entry = faults.run(scenario, options, name)
            except faults.Skipped as why:
                entry = {"skipped": str(why)}
            except faults.Failed as why:
                entry = {"failed": str(why)}
        entry["scenario"] = name
        keep(state, entry)
        results[name] = entry
        said = entry.get("skipped") or entry.get("failed")
        print(f"{name}: " + (said.strip().splitlines()[-1] if said else
              f"{entry['named']}, {'right' if entry['hit'] else 'WRONG: ' + ' or '.join(entry['right'])}, {entry['wall_s']:.0f} s"),
              flush=True)
    for name, scenario in scenarios.all_scenarios().items() if program and not options.report else ():
        if scenario.severity not in (0, 3) or "rows" not in results.get(name, {}) or results[name].get("traceml"):
            continue
        if options.only and not any(word in name for word in options.only):
            continue
        if options.stop_after and time.monotonic() - begin > 60 * options.stop_after:
            break
        results[name]["traceml"] = traceml.ask(scenario, options, name, program)
        keep(state, results[name])
        print(f"{name}: TraceML: {results[name]['traceml']}", flush=True)
    if options.only:
        results = {name: entry for name, entry in results.items() if any(word in name for word in options.only)}
    report(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
