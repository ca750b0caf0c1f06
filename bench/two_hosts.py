"""Two network namespaces of this machine as two hosts, with a wire between them whose rate a token bucket limits.

Needs root and iproute2. A rank has a core of its own and one thread: what two cores can give two hosts.
"""
import os
import shutil
import subprocess


class NoNamespaces(Exception):
    pass


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True)


class TwoHosts:
    def __init__(self, net="10.99.8", port=29651):
        self.names = [f"rigwise{os.getpid()}{side}" for side in "ab"]
        self.addresses, self.port = (f"{net}.1", f"{net}.2"), port
        if not shutil.which("ip") or ip("netns", "add", self.names[0]).returncode != 0:
            raise NoNamespaces("network namespaces need iproute2 and root")
        ip("netns", "add", self.names[1])
        ip("link", "add", "wire", "netns", self.names[0], "type", "veth", "peer", "name", "wire", "netns", self.names[1])
        for name, address in zip(self.names, self.addresses):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "wire")
            for link in ("lo", "wire"):
                made = ip("-n", name, "link", "set", link, "up")
                if made.returncode != 0:
                    self.close()
                    raise NoNamespaces(made.stderr)

    def limit(self, mbit):
        for name in self.names:
            made = subprocess.run(["tc", "-n", name, "qdisc", "replace", "dev", "wire", "root", "tbf", "rate", f"{mbit}mbit", "burst",
                                   "64kb", "latency", "50ms"], capture_output=True, text=True)
            if made.returncode != 0:
                self.close()
                raise NoNamespaces(f"tc: {made.stderr}")

    def start(self, rank, words, address=None, **keywords):
        """One rank on its host, which is told to meet the others at `address`; `unshare` gives the host a name."""
        place = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": address or self.addresses[0],
                 "MASTER_PORT": str(self.port), "OMP_NUM_THREADS": "1"}
        pinned = ["taskset", "-c", str(rank)] if len(os.sched_getaffinity(0)) > rank else []
        return subprocess.Popen(["ip", "netns", "exec", self.names[rank], "unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"',
                                 f"gpu{rank + 1}", *pinned, *map(str, words)], env={**os.environ, **place}, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **keywords)

    def both(self, words, front=(), timeout=600, **keywords):
        """The same command on both; `front` goes before rank 0's. Rank 0's output; exits where one fails."""
        ranks = [self.start(0, [*front, *words], **keywords), self.start(1, words, **keywords)]
        told = [rank.communicate(timeout=timeout) for rank in ranks]
        for rank, (out, err) in zip(ranks, told):
            if rank.returncode != 0:
                raise SystemExit(f"{' '.join(map(str, words))}: exit {rank.returncode}\n{out[-1000:]}{err[-3000:]}")
        return told[0]

    def close(self):
        for name in self.names:
            ip("netns", "del", name)
