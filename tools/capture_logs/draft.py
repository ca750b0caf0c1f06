#!/usr/bin/env python3
"""Turn captured logs into fixtures: the log, and what it states, in the format of the log corpus.

What: reads OUT/NAME.MODE.log (capture.py), applies the drafter of the trainer (drafters/: one exact pattern a
format, written from reading that trainer's output) and writes FIXTURES/FRAMEWORK.jsonl, one log a line. Prints each log
beside its entries with --show, because every draft is read by a person before it is kept.

Why: the fixtures judge the reader of rigwise, so they share no code with it, and no reader's output goes into them.

Example:
    python draft.py --captured /tmp/captured --fixtures ../../tests/fixtures/logs/captured --show hf_trainer
"""

import argparse
import json
import sys
from pathlib import Path

import drafters

MAX_BYTES = 24 << 10


def entry_of(about, text, case):
    """Return the fixture of one captured log."""
    expect, summary, checkpoints = drafters.draft(case, text)
    versions = ", ".join(about["versions"])
    where = {
        "pipe": "stdout and stderr through one pipe",
        "stdout": "stdout only, through a pipe",
        "terminal": f"a pseudo-terminal of 24 x {case.get('columns', 100)}",
    }[about["mode"]]
    tags = list(case.get("tags", []))
    for tag, sign in (("carriage-return", "\r"), ("ansi", "\x1b["), ("backspace", "\b"), ("tqdm", "it/s]")):
        if (text.replace("\r\n", "\n") if sign == "\r" else text).find(sign) >= 0 and tag not in tags:
            tags.append(tag)
    tags.append(about["mode"])
    return {
        "id": f"{about['name']}.{about['mode']}",
        "source": f"captured: {versions}; {about['command']}; {where}",
        "framework": about["framework"],
        "fidelity": "captured",
        "redacted": True,
        "tags": tags,
        "log": text,
        "expect": expect,
        "summary": summary,
        "checkpoints": checkpoints,
        "note": case.get("note", ""),
    }


def show(row):
    """Print a log with its control characters visible, then what it states."""
    print("=====", row["id"], row["tags"], row["note"])
    print(row["log"].replace("\r\n", "<CRLF>\n").replace("\r", "<CR>\n").replace("\x1b", "<ESC>").replace("\b", "<BS>"))
    for entry in row["expect"]:
        print("   ", json.dumps(entry))
    print("    summary", json.dumps(row["summary"]), "checkpoints", row["checkpoints"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("Example:")[1].strip())
    parser.add_argument("--captured", type=Path, required=True, help="folder that capture.py wrote")
    parser.add_argument("--fixtures", type=Path, required=True, help="folder for the .jsonl files")
    parser.add_argument("--show", action="store_true", help="print each log and its draft")
    parser.add_argument("names", nargs="*", help="cases to draft (a name, or the begin of one); all when left out")
    args = parser.parse_args()
    cases = {c["name"]: c for c in json.loads((Path(__file__).parent / "cases.json").read_text(encoding="utf-8"))}
    args.fixtures.mkdir(parents=True, exist_ok=True)
    for path in sorted(args.captured.glob("*.json")):
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["name"] not in cases or (args.names and not any(about["name"].startswith(n) for n in args.names)):
            continue
        case = cases[about["name"]]
        raw = path.with_suffix(".log").read_bytes()
        if about["status"] != case.get("status", 0) or len(raw) > MAX_BYTES:
            print(f"{path.stem}: left out: status {about['status']}, {len(raw)} bytes", file=sys.stderr)
            continue
        row = entry_of(about, raw.decode("utf-8"), case)
        if args.show:
            show(row)
        target = args.fixtures / f"{row['framework']}.jsonl"
        rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()] if target.exists() else []
        rows = sorted([r for r in rows if r["id"] != row["id"]] + [row], key=lambda r: r["id"])
        target.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
