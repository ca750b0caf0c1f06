"""Shared by the record_*_test.py programs: runs commands with and without rigwise, on pipes and pseudo-terminals.

RIGWISE names the binary under test, RIGWISE_BUILD the build folder (its record_driver shows run directories and stands in
for `rigwise run` where the binary has no such verb).
"""
import fcntl
import glob
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

BUILD = os.environ.get("RIGWISE_BUILD", ".")
DRIVER = os.environ.get("RIGWISE_DRIVER") or os.path.join(BUILD, "record_driver")
PYTHON = sys.executable
LIMIT_S = 60  # no test waits longer for anything


def binary():
    """The real program where it has the verb, else the driver: both take the same words."""
    own = os.environ.get("RIGWISE", "")
    if own and not os.environ.get("RIGWISE_DRIVER"):
        try:
            helped = subprocess.run([own, "run", "--help"], capture_output=True, timeout=20)
            if helped.returncode == 0 and b"--name" in helped.stdout:
                return own
        except OSError:
            pass
    return DRIVER


BINARY = binary()


def wait_for(check, limit_s=LIMIT_S):
    """The first true value of check(); fails the test when none comes."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        value = check()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("waited too long for " + getattr(check, "__name__", "it"))


def children_of(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as text:
            return [int(word) for word in text.read().split()]
    except OSError:
        return []


def title_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as text:
            return text.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as text:
            return text.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class RecordTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="rigwise-record-")
        self.runs = os.path.join(self.folder, "runs")
        self.started = []

    def tearDown(self):
        for pid in self.started:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        # A recorder that outlived its front may still write.
        for _ in range(100):
            shutil.rmtree(self.folder, ignore_errors=True)
            if not os.path.exists(self.folder):
                break
            time.sleep(0.05)

    # ---- starting

    def words(self, command, name="r", runs=None, extra=()):
        quiet = () if BINARY == DRIVER else ("--quiet",)
        return [BINARY, "run", "--name", name, "--runs", runs or self.runs, *quiet, *extra, "--", *command]

    def run_plain(self, command, **more):
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S, **more)

    def run_recorded(self, command, **more):
        extra = more.pop("extra", ("--interval", "0.2"))
        name, runs = more.pop("name", "r"), more.pop("runs", None)
        more.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(self.words(command, name, runs, extra), capture_output=True, timeout=LIMIT_S * 2, **more)

    def start(self, command, **more):
        extra = more.pop("extra", ("--interval", "0.2"))
        name, runs = more.pop("name", "r"), more.pop("runs", None)
        more.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(self.words(command, name, runs, extra), **more)
        self.started.append(process.pid)
        return process

    def start_in_session(self, command, **more):
        """Without a controlling terminal, as cron and CI do it."""
        return self.start(command, start_new_session=True, **more)

    # ---- looking

    def the_run(self, runs=None):
        found = sorted(glob.glob(os.path.join(runs or self.runs, "*", "run.json")))
        self.assertEqual(len(found), 1, found)
        return os.path.dirname(found[0])

    def wait_for_run(self, runs=None):
        return os.path.dirname(wait_for(lambda: glob.glob(os.path.join(runs or self.runs, "*", "run.json")))[0])

    def show(self, run_dir=None):
        shown = subprocess.run([DRIVER, "show", run_dir or self.the_run()], capture_output=True, timeout=LIMIT_S)
        self.assertEqual(shown.returncode, 0, shown.stderr)
        return json.loads(shown.stdout)

    def log(self, stream="out", run_dir=None):
        with open(os.path.join(run_dir or self.the_run(), "log", stream + ".log"), "rb") as data:
            return data.read()

    def family(self, front):
        """front → recorder → keeper → command, by pid."""
        def recorder():
            return [c for c in children_of(front) if title_of(c).startswith("rigwise: recorder")]

        def keeper():
            return [c for c in children_of(recorder_pid) if title_of(c).startswith("rigwise: keeper")]

        recorder_pid = wait_for(recorder)[0]
        keeper_pid = wait_for(keeper)[0]

        def command():  # not a moment between fork and exec
            return [c for c in children_of(keeper_pid) if title_of(c) and not title_of(c).startswith("rigwise:")]

        command_pid = wait_for(command)[0]
        return recorder_pid, keeper_pid, command_pid


def set_size(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Terminal:
    """A user's terminal: a pseudo-terminal whose session runs `argv` (in the foreground)."""

    def __init__(self, argv, rows=30, columns=100, env=None):
        self.shown = b""
        self.status = None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                if env:
                    os.environ.update(env)
                os.execvp(argv[0], argv)
            finally:
                os._exit(99)
        set_size(self.fd, rows, columns)

    def read(self, wait_s=0.1):
        """What the terminal shows within the time; False when it is gone."""
        ready, _, _ = select.select([self.fd], [], [], wait_s)
        if not ready:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.shown += data
        return bool(data)

    def expect(self, text, limit_s=LIMIT_S):
        end = time.monotonic() + limit_s
        while text not in self.shown:
            if time.monotonic() > end or (not self.read() and text not in self.shown):
                raise AssertionError(f"{text!r} was not shown; shown: {self.shown[-2000:]!r}")
        before, _, after = self.shown.partition(text)
        self.shown = after
        return before

    def type(self, keys):
        os.write(self.fd, keys)

    def wait(self, limit_s=LIMIT_S):
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            self.read(0.02)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
                while self.read(0.05) and select.select([self.fd], [], [], 0)[0]:
                    pass
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(f"did not end; shown: {self.shown[-2000:]!r}")

    def close(self):
        try:
            os.close(self.fd)
        except OSError:
            pass

    def end(self):
        self.close()
        if self.status is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            except OSError:
                pass
