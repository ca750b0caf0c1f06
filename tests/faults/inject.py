"""What is done to a training from outside: stopped, crowded, put behind a slow link or on a slow disk. Each is undone at the end.

An injector is a context manager; `began(ranks)` is called once when every rank has ended its third step, ranks being
[{"pid", "t", "rank"}, …]. `report()` afterwards says what was really planted. All need Linux, some root: `lacks()` says what
is missing here, or None.
"""
import contextlib
import json
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

    def env(self):
        return {}

    def around(self, argv):  # the words that start argv in the place where it is to run
        return argv

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


class LittleMemory(Nothing):
    """A memory cgroup (version 1) around the run, held to a share of its own pages once it trains; the rest is swapped out.

    Swaps to a file in the run's folder, which only this cgroup has a reason to use.
    """

    ROOT = pathlib.Path("/sys/fs/cgroup/memory")

    def __init__(self, keep_frac, swap_mb=1500):
        self.keep_frac, self.swap_mb, self.swap, self.used = keep_frac, swap_mb, None, None
        self.group = self.ROOT / f"rigwise-fault-{os.getpid()}"

    def lacks(self):
        if os.geteuid() != 0:
            return "memory cgroups need root"
        if not (self.ROOT / "memory.limit_in_bytes").exists():
            return "no version 1 memory cgroup"
        if len(pathlib.Path("/proc/swaps").read_text().splitlines()) > 1:
            return "this machine swaps already"
        return None if shutil.which("mkswap") else "no mkswap"

    def prepare(self, folder):
        self.swap = pathlib.Path(folder).resolve() / "swap"
        with open(self.swap, "wb") as file:  # written out: a file with holes cannot hold swap
            os.fchmod(file.fileno(), 0o600)
            for _ in range(self.swap_mb):
                file.write(bytes(1 << 20))
        subprocess.run(["mkswap", str(self.swap)], check=True, capture_output=True)
        subprocess.run(["swapon", str(self.swap)], check=True)
        self.group.mkdir()

    def around(self, argv):
        # From the first instruction on: a process that is moved later leaves its children behind.
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.group / "cgroup.procs"), *argv]

    def began(self, ranks):
        # A share of what is no page cache: cache would be given up for nothing.
        stat = dict(line.split() for line in (self.group / "memory.stat").read_text().splitlines())
        self.used = int(stat["total_rss"])
        limit = int(self.used * self.keep_frac)
        for part in range(1, 11):  # in steps: what cannot be reclaimed at once fails with EBUSY
            with contextlib.suppress(OSError):
                (self.group / "memory.limit_in_bytes").write_text(str(int(self.used + (limit - self.used) * part / 10)))

    def __exit__(self, *_):
        if self.swap:
            swap, self.swap = self.swap, None
            if self.group.exists():
                with contextlib.suppress(OSError):
                    (self.group / "memory.limit_in_bytes").write_text("-1")
                end = time.monotonic() + 10
                while self.group.exists() and time.monotonic() < end:
                    with contextlib.suppress(OSError):
                        self.group.rmdir()
                    time.sleep(0.1)
            subprocess.run(["swapoff", str(swap)])
            swap.unlink()
        return False

    def report(self):
        return {"memory_taken": True, "used_bytes": self.used, "keep_frac": self.keep_frac}


class HeldClocks(Nothing):
    """A GPU whose clocks are held down, by the readings of the fake NVML (tests/fakes): hand-made, no GPU computes anything.

    From `from_s` on, `share` of every ten seconds is held at (1 - loss) of the clock; the counter of the power limit counts
    it. Only the arithmetic on the readings is tested so: the training itself runs on as it would.
    """

    CLOCK_MHZ = 1900

    def __init__(self, share, loss, from_s=15):
        self.share, self.loss, self.from_s, self.zero, self.folder = share, loss, from_s, None, None
        self.build = None

    def held(self, second):
        return second >= self.from_s and second % 10 < round(10 * self.share)

    def lacks(self):
        return None if (self.build / "fakes/libnvidia-ml.so.1").exists() else "no fake NVML in the build folder"

    def prepare(self, folder):
        self.folder = pathlib.Path(folder)
        clock, counter, total = [], [], 0
        for second in range(600):
            clock.append(int(self.CLOCK_MHZ * (1 - self.loss)) if self.held(second) else self.CLOCK_MHZ)
            counter.append(total)
            total += int(1e9) if self.held(second) else 0
        values = {"utilization_gpu": 98, "utilization_memory": 40, "memory_total": 25769803776, "memory_used": 9e9,
                  "temperature": 71, "temperature_slowdown": 95, "temperature_shutdown": 98, "power": 349000,
                  "power_limit": 350000, "power_limit_max": 366000, "clock_sm": clock, "clock_mem": 9501,
                  "clock_sm_max": 2100, "clock_mem_max": 9751, "reasons": 4, "field_74": counter, "field_76": 0,
                  "field_269": 0, "field_270": 0, "field_271": 0, "energy": {"start": 1e9, "per_s": 349000}}
        (self.folder / "nvml.json").write_text(json.dumps({"driver_version": "550.54.14", "devices": [
            {"name": "Fake RTX 3090", "uuid": "GPU-fake-0", "pci": "00000000:01:00.0", "values": values}]}))

    def env(self):
        return {"LD_LIBRARY_PATH": str(self.build / "fakes"), "RIGWISE_FAKE_NVML": str(self.folder / "nvml.json")}

    def report(self):
        """Spans that read as held, in seconds since the readings began: at the run's zero, give or take its first tick."""
        return {"held": [[s, s + 1, self.loss] for s in range(600) if self.held(s)]}


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

    def around(self, argv):
        for part in self.parts:
            argv = part.around(argv)
        return argv

    def began(self, ranks):
        for part in self.parts:
            part.began(ranks)

    def __exit__(self, *_):
        for part in self.parts:
            part.__exit__()
        return False

    def report(self):
        return {key: value for part in self.parts for key, value in part.report().items()}
