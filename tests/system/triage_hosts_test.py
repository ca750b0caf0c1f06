"""Failures between two hosts and under a scheduler, made here by the real programs and triaged.

Two network namespaces joined by a cable are the hosts; each has its own names, routes and firewall. Slurm is one node of its own
on this machine, without munge. Both need root. Cases with torch (two ranks on the CPU, one a host) and the time limit of Slurm take
a minute each: they run where RIGWISE_LIVE is set. Whatever a machine lacks is said and skipped.
"""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

from triage_live_test import LIVE, PAIR, PYTHON, ROOT, triage

IP, IPTABLES, UNSHARE = (shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") for name in ("ip", "iptables", "unshare"))


def told(command, **more):
    return subprocess.run(command, capture_output=True, text=True, **more)


@contextlib.contextmanager
def going(command, log, **more):
    """A program of its own session, ended by its process group."""
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, **more)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Pair:
    """host-a (10.77.0.1) and host-b (10.77.0.2), a cable between them."""

    def __init__(self):
        self.names = {host: f"rw{os.getpid()}-{host}" for host in ("host-a", "host-b")}
        self.addresses = {"host-a": "10.77.0.1", "host-b": "10.77.0.2"}

    def __enter__(self):
        try:
            for host, name in self.names.items():
                self.must([IP, "netns", "add", name])
                folder = pathlib.Path("/etc/netns", name)
                folder.mkdir(parents=True, exist_ok=True)
                lines = ["127.0.0.1 localhost", *(f"{address} {other}" for other, address in self.addresses.items())]
                (folder / "hosts").write_text("\n".join(lines) + "\n")
            a, b = self.names.values()
            self.must([IP, "link", "add", "eth0", "netns", a, "type", "veth", "peer", "name", "eth0", "netns", b])
            for host in self.names:
                self.on(host, f"{IP} link set lo up; {IP} addr add {self.addresses[host]}/24 dev eth0; {IP} link set eth0 up")
        except subprocess.CalledProcessError as error:
            self.__exit__()
            raise unittest.SkipTest(f"no network namespaces here: {error.stderr.strip()}")
        return self

    def __exit__(self, *_):
        for name in self.names.values():
            told([IP, "netns", "del", name])
            shutil.rmtree(pathlib.Path("/etc/netns", name), ignore_errors=True)

    def must(self, command):
        subprocess.run(command, capture_output=True, text=True, check=True)

    def inside(self, host, line):
        """`line` on that host, whose name it then has."""
        return [IP, "netns", "exec", self.names[host], UNSHARE, "--uts", "bash", "-c", f"hostname {host}; {line}"]

    def on(self, host, line):
        ran = told(self.inside(host, line))
        if ran.returncode != 0:
            raise unittest.SkipTest(f"`{line}` does not work here: {ran.stderr.strip()}")


# What a rank does first, without torch: rank 0 waits for its peers' greeting and sends them 256 KiB.
GREET = """
import os, socket, sys, time
rank = int(os.environ['RANK'])
if rank == 0:
    server = socket.create_server(('', 29500)); server.settimeout(12)
    peer, _ = server.accept(); peer.settimeout(12)
    peer.recv(5); peer.sendall(b'x' * (256 << 10)); print('rank 0: peer has come', flush=True)
    peer.recv(1)
else:
    until = time.monotonic() + 10
    while True:  # rank 0 may not listen yet
        try:
            peer = socket.create_connection((os.environ['MASTER_ADDR'], 29500), 4); break
        except ConnectionRefusedError:
            if time.monotonic() > until: raise
            time.sleep(0.1)
    peer.settimeout(4); peer.sendall(b'hello')
    got = 0
    while got < 256 << 10: got += len(peer.recv(65536))
    print('rank 1: ready', flush=True)
"""

DROP = ("host-a", "{iptables} -A INPUT -p tcp --dport 29500 -j DROP")
REJECT = ("host-a", "{iptables} -A INPUT -p tcp --dport 29500 -j REJECT --reject-with icmp-host-prohibited")
# Packets above 1400 bytes vanish and nobody says so: what a tunnel with a smaller MTU does behind a firewall that drops ICMP.
HOLE = ("host-b", "{iptables} -A INPUT -m length --length 1401:65535 -j DROP")
NO_ROUTE = ("host-b", "{ip} addr del 10.77.0.2/24 dev eth0; {ip} addr add 10.99.0.2/24 dev eth0")

NETWORK = ("rendezvous_network",)
WAITED = ("rendezvous_network", "launcher")             # who only waits cannot tell a wall from a rank that was not started
HUNG = ("rendezvous_network", "collective_timeout")


@unittest.skipUnless(ROOT, "needs root")
@unittest.skipUnless(IP and UNSHARE, "needs ip and unshare")
class TwoHosts(unittest.TestCase):
    def check(self, layers, line, steps=(), names=None, script=GREET, python=sys.executable, limit=40, torch=False):
        if torch and not (PYTHON and LIVE in ("1", "all")):
            self.skipTest("needs torch and RIGWISE_LIVE")
        if any("{iptables}" in step for _, step in steps) and not IPTABLES:
            self.skipTest("needs iptables")
        with tempfile.TemporaryDirectory(prefix="rigwise-hosts-") as folder, Pair() as pair, contextlib.ExitStack() as stack:
            path = pathlib.Path(folder)
            (path / "train.py").write_text(textwrap.dedent(script))
            for host, text in (names or {}).items():
                pathlib.Path("/etc/netns", pair.names[host], "hosts").write_text(text)
            for host, step in steps:
                pair.on(host, step.format(ip=IP, iptables=IPTABLES))
            env = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "host-a", "MASTER_PORT": "29500", "PYTHONUNBUFFERED": "1",
                   "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0"}
            ranks = [stack.enter_context(going(pair.inside(host, f"exec {python} train.py"), path / f"rank{rank}.log", cwd=folder,
                                               env={**env, "RANK": str(rank)}))
                     for rank, host in enumerate(pair.names)]
            end = time.monotonic() + limit
            for rank in ranks:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    rank.wait(max(0.1, end - time.monotonic()))
            if all(rank.poll() is None for rank in ranks):
                self.skipTest("no rank came to its end here: this machine is too busy")
            failure = triage("rank0.log", "rank1.log", cwd=folder)
            text = "".join(f"== {log.name}\n{log.read_text(errors='replace')[-2000:]}\n" for log in sorted(path.glob("*.log")))
        got = failure["first_meaningful"]
        shown = f"{failure['layer']} ({failure['signature']}): {got and got['text']}\n{text}"
        self.assertIn(failure["layer"], layers, shown)
        self.assertIsNotNone(got, shown)
        self.assertRegex(got["text"], re.compile(line), shown)

    def test_no_route(self):
        self.check(NETWORK, "unreachable|No route to host", [NO_ROUTE])

    def test_firewall_that_drops(self):
        self.check(NETWORK, "timed out", [DROP])

    def test_firewall_that_rejects(self):
        self.check(NETWORK, "No route to host|refused|prohibited|timed out", [REJECT])

    def test_packets_that_vanish_above_a_size(self):
        self.check(NETWORK, "timed out", [HOLE])

    def test_no_such_name(self):
        self.check(NETWORK, "host-a|ame|timed out", names={"host-b": "127.0.0.1 localhost\n"})

    def test_a_name_that_is_this_host_itself(self):
        self.check(NETWORK, "refused", names={"host-b": "127.0.0.1 localhost host-a\n"})

    def test_torch_no_route(self):
        self.check(NETWORK, "nreachable|failed to connect|timed out|clients joined", [NO_ROUTE], script=PAIR, python=PYTHON, limit=200, torch=True)

    def test_torch_firewall_that_drops(self):
        self.check(WAITED, "failed to connect|timed out|clients joined|imeout", [DROP], script=PAIR, python=PYTHON, limit=200, torch=True)

    def test_torch_packets_that_vanish_above_a_size(self):
        wide = PAIR.replace("Linear(4, 4)", "Linear(4096, 4)").replace("randn(2, 4)", "randn(2, 4096)")
        self.check(HUNG, "imed out|imeout|Connection closed|reset", [HOLE], script=wide, python=PYTHON, limit=200, torch=True)

    def test_torch_name_that_is_loopback(self):
        names = {"host-a": "127.0.0.1 localhost\n10.77.0.1 host-a\n10.77.0.2 host-b\n", "host-b": "127.0.0.1 localhost host-a\n"}
        self.check(WAITED, "refused|failed to connect|timed out|clients joined", names=names, script=PAIR, python=PYTHON, limit=200, torch=True)


SLURM = {name: shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin") for name in ("slurmctld", "slurmd", "srun", "sinfo")}

CONF = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
SlurmctldPort={port}
SlurmdPort={next}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
KillWait=2
ReturnToService=2
SwitchType=switch/none
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_ports():
    """A port whose next one is free too."""
    import socket
    for _ in range(50):
        with socket.create_server(("127.0.0.1", 0)) as one:
            port = one.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError), socket.create_server(("127.0.0.1", port + 1)):
                return port
    raise unittest.SkipTest("no two free ports")


@unittest.skipUnless(ROOT, "needs root")
@unittest.skipUnless(all(SLURM.values()), "needs Slurm: slurmctld, slurmd, srun")
class Slurm(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.folder = pathlib.Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="rigwise-slurm-")))
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        port, conf = free_ports(), self.folder / "slurm.conf"
        conf.write_text(CONF.format(host=os.uname().nodename.split(".")[0], port=port, next=port + 1, folder=self.folder))
        version = "v1" if pathlib.Path("/sys/fs/cgroup/memory").is_dir() else "v2"
        (self.folder / "cgroup.conf").write_text(f"CgroupPlugin=cgroup/{version}\nCgroupAutomount=no\nConstrainRAMSpace=yes\n")
        self.env = {**os.environ, "SLURM_CONF": str(conf), "PYTHONUNBUFFERED": "1"}
        for daemon in ("slurmctld", "slurmd"):
            self.stack.enter_context(going([SLURM[daemon], "-D", "-f", str(conf)], self.folder / f"{daemon}.out", env=self.env))
        end = time.monotonic() + 40
        while "idle" not in told([SLURM["sinfo"], "-h", "-o", "%T"], env=self.env).stdout:
            if time.monotonic() > end:
                self.skipTest("Slurm does not come up here: " + (self.folder / "slurmd.out").read_text()[-400:])
            time.sleep(0.5)

    def srun(self, options, script):
        (self.folder / "train.py").write_text(textwrap.dedent(script))
        with going([SLURM["srun"], *options, sys.executable, "train.py"], self.folder / "job.log", cwd=self.folder, env=self.env) as job:
            try:
                job.wait(200)
            except subprocess.TimeoutExpired:
                self.skipTest("the job did not come to its end here")
        text = (self.folder / "job.log").read_text(errors="replace")
        return triage("job.log", cwd=self.folder), text

    def check(self, options, script, layer, line, rank=None):
        failure, text = self.srun(options, script)
        got = failure["first_meaningful"]
        self.assertEqual(failure["layer"], layer, text)
        self.assertRegex(got["text"], line, text)
        if rank is not None:
            self.assertEqual(failure["rank"], rank, text)

    def test_memory(self):
        self.check(["-l", "-n", "2", "--mem=60"], """
            import os, time
            for step in range(3): print('step', step, 'loss', 2 - step / 10, flush=True)
            if os.environ['SLURM_PROCID'] == '0': rows = b'x' * (300 << 20)
            time.sleep(3)""", "host_oom", "oom.kill|Out Of Memory")

    def test_an_exit_code(self):
        self.check(["-l", "-n", "2"], """
            import os, time
            print('step 1 loss 2.0', flush=True)
            if os.environ['SLURM_PROCID'] == '1': os._exit(7)
            time.sleep(1)""", "user_code", "exit code 7", rank=1)

    def test_no_such_partition(self):
        self.check(["-p", "gpu", "-n", "1"], "print(1)", "launcher", "partition")

    def test_time_limit(self):
        if LIVE not in ("1", "all"):
            self.skipTest("RIGWISE_LIVE is not set")
        self.check(["-l", "-n", "1", "--time=1"], """
            import time
            for step in range(400): print('step', step, 'loss', 2 / (step + 1), flush=True); time.sleep(1)""", "launcher", "TIME LIMIT")


if __name__ == "__main__":
    unittest.main(verbosity=2)
