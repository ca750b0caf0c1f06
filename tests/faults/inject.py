"""What is done to a training from outside: stopped, crowded, put behind a slow link or on a slow disk. Each is undone at the end.

An injector is a context manager; `began(ranks)` is called once when every rank has ended its third step, ranks being
[{"pid", "t", "rank"}, …]. `report()` afterwards says what was really planted. All need Linux, some root: `lacks()` says what
is missing here, or None.
"""
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent


def threads_of(pid):
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    return []


class Nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def lacks(self):
        return None

    def prefix(self):  # words in front of rigwise run
        return []

    def env(self):
        return {}

    def began(self, ranks):
        pass

    def report(self):
        return {}


class Stop(Nothing):
    """Stops one rank for `length_s`, again every `every_s`; what it took is taken from the clock around the two signals."""

    def __init__(self, length_s, every_s, rank=0):
        self.length_s, self.every_s, self.rank = length_s, every_s, rank
        self.stops, self.end, self.thread, self.pid = [], threading.Event(), None, None

    def began(self, ranks):
        self.pid = next(r["pid"] for r in ranks if r["rank"] == self.rank)
        self.thread = threading.Thread(target=self._pulse)
        self.thread.start()

    def _pulse(self):
        # At the stop the kernel still runs the process to its next return to user mode: well below a millisecond.
        with contextlib.suppress(ProcessLookupError):
            while not self.end.wait(self.every_s - self.length_s):
                os.kill(self.pid, signal.SIGSTOP)
                start = time.monotonic()
                self.end.wait(self.length_s)
                os.kill(self.pid, signal.SIGCONT)
                self.stops.append([start, time.monotonic()])

    def __exit__(self, *_):
        self.end.set()
        if self.thread:
            self.thread.join()
        return False

    def report(self):
        return {"stops": self.stops, "stopped_rank": self.rank}


SPIN = """
import sys, time
duty, period = float(sys.argv[1]), 0.1
while True:
    end = time.thread_time() + duty * period
    start = time.monotonic()
    while time.thread_time() < end: pass
    if duty < 1: time.sleep(max(0.0, (1 - duty) * period))
"""


class Hogs(Nothing):
    """Programs that want the cores of the training: each spins `duty` of the time, pinned beside the ranks."""

    def __init__(self, count, duty=1.0):
        self.count, self.duty, self.hogs = count, duty, []

    def lacks(self):
        return None if len(os.sched_getaffinity(0)) >= 2 else "one core only: no other for the rest of the machine"

    def began(self, ranks):
        cores = sorted(os.sched_getaffinity(0))[-len(ranks):]
        for place, rank in enumerate(ranks):
            for thread in threads_of(rank["pid"]):
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(thread, {cores[place % len(cores)]})
        for number in range(self.count):
            core = cores[number % len(cores)]
            hog = subprocess.Popen([sys.executable, "-c", SPIN, str(self.duty)], start_new_session=True,
                                   preexec_fn=lambda core=core: os.sched_setaffinity(0, {core}))
            self.hogs.append(hog)
            with contextlib.suppress(OSError):  # the same share of the cores as the training has
                level = pathlib.Path(f"/proc/{ranks[0]['pid']}/autogroup").read_text().split()[-1]
                pathlib.Path(f"/proc/{hog.pid}/autogroup").write_text(level)

    def __exit__(self, *_):
        while self.hogs:
            hog = self.hogs.pop()
            hog.kill()
            hog.wait()
        return False


class SlowDisk(Nothing):
    """A folder on a file system whose writes wait; the training is told to save there ({slow})."""

    def __init__(self, bytes_per_s):
        self.bytes_per_s, self.server, self.folder = bytes_per_s, None, None

    def lacks(self):
        if not os.path.exists("/dev/fuse"):
            return "no /dev/fuse"
        if not shutil.which("fusermount3"):
            return "no fusermount3 (package fuse3)"
        if subprocess.run(["pkg-config", "--exists", "fuse3"]).returncode:
            return "no headers of libfuse3 (package libfuse3-dev)"
        return None

    def prepare(self, folder):
        folder = pathlib.Path(folder).resolve()
        self.folder, back = folder / "slow", folder / "slow-behind"
        for made in (self.folder, back):
            made.mkdir(parents=True, exist_ok=True)
        program = folder / "slowfs"
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], capture_output=True, text=True, check=True)
        subprocess.run(["cc", "-O2", "-o", str(program), str(HERE / "slowfs.c"), *flags.stdout.split()], check=True)
        self.server = subprocess.Popen([str(program), str(self.bytes_per_s), str(back), str(self.folder)])
        end = time.monotonic() + 10
        while not os.path.ismount(self.folder):
            if time.monotonic() > end or self.server.poll() is not None:
                raise RuntimeError("slowfs did not mount")
            time.sleep(0.05)

    def __exit__(self, *_):
        if self.server:
            server, self.server = self.server, None
            subprocess.run(["fusermount3", "-u", "-z", str(self.folder)])
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(10)
            if server.poll() is None:
                server.kill()
        return False


class SlowLink(Nothing):
    """Two hosts, as the network sees it: a namespace for each rank, joined by a link that tbf holds to a rate.

    The launch script starts torchrun in each ({netns0}, {netns1}, {address0}); megabit None leaves the link as it is.
    """

    def __init__(self, megabit=None):
        self.megabit, self.names, self.made = megabit, [f"rwf{os.getpid()}a", f"rwf{os.getpid()}b"], False

    def lacks(self):
        if os.geteuid() != 0:
            return "network namespaces need root"
        return None if shutil.which("ip") and shutil.which("tc") else "no ip or tc (package iproute2)"

    def prepare(self, _folder):
        def sh(*words):
            subprocess.run(words, check=True)

        ends = [f"v{os.getpid()}a"[:15], f"v{os.getpid()}b"[:15]]
        self.made = True
        for name in self.names:
            sh("ip", "netns", "add", name)
        sh("ip", "link", "add", ends[0], "netns", self.names[0], "type", "veth", "peer", "name", ends[1], "netns",
           self.names[1])
        for number, name in enumerate(self.names):
            sh("ip", "-n", name, "addr", "add", f"10.77.0.{number + 1}/24", "dev", ends[number])
            sh("ip", "-n", name, "link", "set", ends[number], "up")
            sh("ip", "-n", name, "link", "set", "lo", "up")
            if self.megabit:
                sh("ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", ends[number], "root", "tbf", "rate",
                   f"{self.megabit}mbit", "burst", "128kb", "latency", "300ms")

    def __exit__(self, *_):
        if self.made:
            self.made = False
            for name in self.names:
                subprocess.run(["ip", "netns", "del", name])
        return False


class Several(Nothing):
    def __init__(self, *parts):
        self.parts = parts

    def lacks(self):
        return next((why for why in (part.lacks() for part in self.parts) if why), None)

    def prepare(self, folder):
        for part in self.parts:
            if hasattr(part, "prepare"):
                part.prepare(folder)

    def env(self):
        return {key: value for part in self.parts for key, value in part.env().items()}

    def began(self, ranks):
        for part in self.parts:
            part.began(ranks)

    def __exit__(self, *_):
        for part in self.parts:
            part.__exit__()
        return False

    def report(self):
        return {key: value for part in self.parts for key, value in part.report().items()}
