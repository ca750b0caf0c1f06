"""Runs the text cases of one folder: what a person types, and exactly what they see.

A case is a file NAME.test with sections, each begun by a line in brackets:

    [setup]     shell lines run first in an empty folder (optional)
    [command]   the shell line under test; `rigwise` is the built program
    [exit]      its exit status
    [stdout]    what it prints there, whole; a line that starts with "~ " is a regular expression for that line,
    [stderr]    and a line "~~" stands for any number of lines

The empty folder is written as $TMP in expected text, the folder of fixtures as $FIXTURES. UPDATE_GOLDEN=1 rewrites
stdout and stderr of cases that do not match (patterns are lost: put them back by hand).
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

SECTIONS = ("setup", "command", "exit", "stdout", "stderr")


def parse(path):
    case, name = {}, None
    for line in path.read_text().splitlines():
        match = re.fullmatch(r"\[(\w+)\]", line)
        if match and match.group(1) in SECTIONS:
            name = match.group(1)
            case[name] = []
        elif name:
            case[name].append(line)
    return case


def matches(expected, actual):
    """Expected lines against actual ones, with `~ regex` lines and `~~` gaps."""
    if not expected:
        return not actual
    head, rest = expected[0], expected[1:]
    if head == "~~":
        return any(matches(rest, actual[i:]) for i in range(len(actual) + 1))
    if not actual:
        return False
    fits = re.fullmatch(head[2:], actual[0]) if head.startswith("~ ") else head == actual[0]
    return bool(fits) and matches(rest, actual[1:])


def trimmed(lines):
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    return lines


def run(path, binary, fixtures):
    case = parse(path)
    with tempfile.TemporaryDirectory(prefix="rigwise-case-") as folder:
        folder = os.path.realpath(folder)
        env = {"PATH": f"{binary.parent}:{os.environ['PATH']}", "HOME": folder, "LANG": "C.UTF-8", "TZ": "UTC",
               "FIXTURES": str(fixtures), "TMP": folder}
        for name in ("LD_LIBRARY_PATH", "ASAN_OPTIONS", "TSAN_OPTIONS"):
            if name in os.environ:
                env[name] = os.environ[name]
        script = "\n".join(case.get("setup", []))
        if script.strip():
            subprocess.run(["bash", "-euc", script], cwd=folder, env=env, check=True, stdin=subprocess.DEVNULL,
                           capture_output=True)
        done = subprocess.run(["bash", "-c", "\n".join(case["command"])], cwd=folder, env=env, timeout=120,
                              stdin=subprocess.DEVNULL, capture_output=True)

    def visible(data):
        text = data.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
        text = text.replace(folder, "$TMP").replace(str(fixtures), "$FIXTURES")
        return trimmed(text.split("\n"))

    wrong = []
    status = int("".join(case.get("exit", ["0"])).strip() or 0)
    if done.returncode != status:
        wrong.append(f"exit status {done.returncode}, not {status}")
    for name, data in (("stdout", done.stdout), ("stderr", done.stderr)):
        actual, expected = visible(data), trimmed(case.get(name, []))
        if not matches(expected, actual):
            wrong.append(f"{name} differs; it printed:\n" + "\n".join("    " + line for line in actual))
            case[name] = actual
    if wrong and os.environ.get("UPDATE_GOLDEN"):
        case["exit"] = [str(done.returncode)]
        path.write_text("".join(f"[{name}]\n" + "".join(line + "\n" for line in trimmed(case[name]))
                                for name in SECTIONS if name in case))
    return wrong


def main():
    binary, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    fixtures = pathlib.Path(__file__).resolve().parent / "fixtures"
    failed = 0
    cases = sorted(folder.glob("*.test"))
    for path in cases:
        wrong = run(path, binary, fixtures)
        print(("ok    " if not wrong else "FAIL  ") + path.name)
        for text in wrong:
            print("  " + text)
        failed += bool(wrong)
    print(f"{len(cases) - failed} passed, {failed} failed")
    return 1 if failed or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
