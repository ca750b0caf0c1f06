#!/usr/bin/env python3
"""Run today's trainers tiny and keep the bytes that they print.

What: runs the cases of cases.json, each in a fresh folder of a neutral home, through a pipe
(stdout and stderr in one), a pseudo-terminal of 24 x 100, or with only stdout kept, and writes
OUT/NAME.MODE.log (the bytes as written) and OUT/NAME.MODE.json (command, versions, exit status).

Why: log formats change with every release; expectations are worth something only against what the
current trainer really writes.

Needs: a Python environment with the packages of requirements.txt (see there), named by --venv; a case
may name another with "venv". Nothing is downloaded: models and data are made by the scripts.

Example:
    python capture.py --venv ~/venv --home /home/user --out /tmp/captured hf_trainer
"""

import argparse
import fcntl
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROWS = 24
COLUMNS = 100
LIMIT_S = 240
KEEP_BYTES = 1 << 20  # a case that prints more than this is broken: stop reading, say so


def environment(home, venv, extra, terminal):
    """Return a small fixed environment, so that the machine of the capture does not show in the log."""
    env = {
        "HOME": str(home),
        "USER": "user",
        "LANG": "C.UTF-8",
        "PATH": f"{venv}/bin:/usr/local/bin:/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "WANDB_MODE": "disabled",
        "DO_NOT_TRACK": "1",
        "YOLO_OFFLINE": "true",
        "CUDA_VISIBLE_DEVICES": "",
        "CAPTURE_SCRIPTS": str(home / "scripts"),
    }
    if terminal:
        env["TERM"] = "xterm-256color"
    env.update(extra)
    return env


def run_piped(argv, cwd, env, mode):
    """Return (bytes, status); mode "pipe" merges stderr into stdout, "stdout" drops it."""
    sink = subprocess.STDOUT if mode == "pipe" else subprocess.DEVNULL
    child = subprocess.Popen(
        argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=sink, start_new_session=True
    )
    return collect(child.stdout.fileno(), child)


def run_on_terminal(argv, cwd, env, columns):
    """Return (bytes, status) of a command on a pseudo-terminal of its own."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))

    def take_terminal():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    child = subprocess.Popen(argv, cwd=cwd, env=env, stdin=slave, stdout=slave, stderr=slave, preexec_fn=take_terminal)
    os.close(slave)
    try:
        return collect(master, child)
    finally:
        os.close(master)


def collect(descriptor, child):
    """Read until the writer closes; end the whole process group after LIMIT_S."""
    data = bytearray()
    deadline = time.monotonic() + LIMIT_S
    while True:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready or len(data) > KEEP_BYTES:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            return bytes(data), 124
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # Linux: a pseudo-terminal whose last writer is gone reads as EIO
            piece = b""
        if not piece:
            return bytes(data), child.wait()
        data += piece


def versions(venv, packages):
    """Return "name version" of each package, as its environment states it."""
    code = "import importlib.metadata as m, sys\nfor p in sys.argv[1:]: print(p, m.version(p))"
    out = subprocess.run([f"{venv}/bin/python", "-c", code, *packages], capture_output=True, text=True, check=False)
    return out.stdout.split("\n")[:-1]


def mask(data, home, venv):
    """Replace what names this machine: the home folder (by /home/user), the environments' folder, host and kernel."""
    data = data.replace(str(home).encode(), b"/home/user")
    data = data.replace(str(venv.parent.resolve()).encode(), b"/home/user/env")
    host = os.uname().nodename.encode()
    if len(host) > 3:
        data = data.replace(host, b"node1")
    data = data.replace(os.uname().release.encode(), b"6.1.0-28-amd64")
    return re.sub(rb"/root(?=/)", b"/home/user", data)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("Example:")[1].strip())
    parser.add_argument("--venv", type=Path, required=True, help="Python environment of the trainers")
    parser.add_argument("--home", type=Path, required=True, help="neutral home to run in, made if absent")
    parser.add_argument("--out", type=Path, required=True, help="where the logs go")
    parser.add_argument("--before", default="", help="command to run before each case (to wait for a quiet machine)")
    parser.add_argument("names", nargs="*", help="cases to run (a name, or the begin of one); all when left out")
    args = parser.parse_args()
    cases = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))
    args.out.mkdir(parents=True, exist_ok=True)
    shutil.copytree(HERE / "scripts", args.home / "scripts", dirs_exist_ok=True)
    failed = 0
    for case in cases:
        if args.names and not any(case["name"].startswith(n) for n in args.names):
            continue
        venv = args.venv.parent / case["venv"] if "venv" in case else args.venv
        for mode in case.get("modes", ["pipe"]):
            if args.before:
                subprocess.run(shlex.split(args.before), check=True)
            project = args.home / "project"
            shutil.rmtree(project, ignore_errors=True)
            project.mkdir(parents=True)
            env = environment(args.home, venv, case.get("env", {}), mode == "terminal")
            for step in case.get("prepare", []):  # models, data, configuration: not captured
                done = subprocess.run(["bash", "-c", step], cwd=project, env=env, capture_output=True, check=False)
                if done.returncode:
                    print(f"{case['name']}: prepare: {done.stderr.decode(errors='replace')[-2000:]}", file=sys.stderr)
            argv = ["bash", "-c", "exec " + case["command"]]
            if mode == "terminal":
                data, status = run_on_terminal(argv, project, env, case.get("columns", COLUMNS))
            else:
                data, status = run_piped(argv, project, env, mode)
            data = mask(data, args.home, venv)
            stem = args.out / f"{case['name']}.{mode}"
            Path(f"{stem}.log").write_bytes(data)
            about = {
                "name": case["name"],
                "mode": mode,
                "framework": case["framework"],
                "command": case["command"],
                "versions": versions(venv, case.get("packages", [])),
                "status": status,
            }
            Path(f"{stem}.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
            pieces = len(re.split(rb"\r\n|\n|\r", data))
            print(f"{case['name']}.{mode}: status {status}, {len(data)} bytes, {pieces} pieces", flush=True)
            failed += status != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
