"""Help text and docs/cli.md list the same verbs and flags' exit codes; no file of the project is over-long."""
import pathlib
import re
import subprocess
import sys

root, binary = pathlib.Path(sys.argv[1]), sys.argv[2]
problems = []

help_text = subprocess.run([binary, "--help"], capture_output=True, text=True, check=True).stdout
verbs_section = help_text.split("SUBCOMMANDS:" if "SUBCOMMANDS:" in help_text else "Subcommands:")[1]
in_help = set(re.findall(r"^\s{2}(\w+)\s", verbs_section, re.M))
cli = (root / "docs/cli.md").read_text()
in_docs = set(re.findall(r"^\| `(\w+)` \|", cli, re.M))
if in_help != in_docs:
    problems.append(f"verbs only in --help: {sorted(in_help - in_docs)}, only in docs/cli.md: {sorted(in_docs - in_help)}")

for verb in sorted(in_help):
    text = subprocess.run([binary, verb, "--help"], capture_output=True, text=True, check=True).stdout
    if "Example:" not in text:
        problems.append(f"rigwise {verb} --help has no example")

constants = dict(re.findall(r"constexpr int k(\w+) = (\d+);", (root / "src/cli/args.h").read_text()))
codes = set(re.findall(r"^\| (\d+) \|", cli, re.M))
if set(constants.values()) != codes:
    problems.append(f"exit codes in src/cli/args.h {sorted(constants.values())} and docs/cli.md {sorted(codes)} differ")

for folder in ("src", "include", "tests", "web/src", "tools", "bench", "examples"):
    for path in (root / folder).rglob("*"):
        if path.suffix in (".cc", ".h", ".ts", ".py") and len(path.read_text(errors="replace").splitlines()) > 800:
            problems.append(f"{path.relative_to(root)} has more than 800 lines")

print("\n".join(problems) or "docs: verbs, exit codes and sizes agree")
sys.exit(1 if problems else 0)
