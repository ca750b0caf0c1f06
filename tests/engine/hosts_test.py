"""Two hosts: network namespaces of this machine, with names of their own and a slow link between them."""
import json
import os
import shutil
import signal
import subprocess
import time
import unittest

from engine_runs import ENGINE, EngineCase, log_lines, losses

WORK = ["--steps", 4, "--seq", 32, "--global-batch", 4, "--lr", "2e-3", "--threads", "1"]
ADDRESSES = ("10.99.7.1", "10.99.7.2")


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True)


class TwoHosts(EngineCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.names = [f"rigwise{os.getpid()}{side}" for side in "ab"]
        if not shutil.which("ip") or ip("netns", "add", cls.names[0]).returncode != 0:
            raise unittest.SkipTest("network namespaces need iproute2 and root")
        cls.addClassCleanup(ip, "netns", "del", cls.names[0])
        ip("netns", "add", cls.names[1])
        cls.addClassCleanup(ip, "netns", "del", cls.names[1])
        ip("link", "add", "wire", "netns", cls.names[0], "type", "veth", "peer", "name", "wire", "netns", cls.names[1])
        for name, address in zip(cls.names, ADDRESSES):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "wire")
            for link in ("lo", "wire"):
                made = ip("-n", name, "link", "set", link, "up")
                assert made.returncode == 0, made.stderr
            subprocess.run(["tc", "-n", name, "qdisc", "add", "dev", "wire", "root", "tbf", "rate", "400mbit", "burst", "64kb",
                            "latency", "50ms"], capture_output=True)

    def start(self, rank, *words, address=ADDRESSES[0]):
        """One rank on its host; `unshare` gives the host a name."""
        place = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": address,
                 "MASTER_PORT": "29641", "OMP_NUM_THREADS": "1"}
        named = 'hostname "$0"; exec "$@"'
        process = subprocess.Popen(["ip", "netns", "exec", self.names[rank], "unshare", "--uts", "sh", "-c", named, f"gpu{rank + 1}",
                                    ENGINE, *map(str, words)], env={**os.environ, **place}, text=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def both(self, *words):
        ranks = [self.start(rank, *words) for rank in (0, 1)]
        told = [rank.communicate(timeout=120) for rank in ranks]
        for rank, (_, err) in zip(ranks, told):
            self.assertEqual(rank.returncode, 0, err)
        return told[0]

    def test_training_is_that_of_one_host(self):
        here = self.new("here")
        alone = self.train(here, *WORK, "--strategy", "ddp", "--ranks", 2)
        there = self.new("there")
        _, err = self.both("train", "--model", self.model(), "--data", self.text, "--out", there, *WORK, "--strategy", "ddp")
        self.assertIn(f"2 ranks, gloo over wire (towards the other hosts, from {ADDRESSES[0]})", err)
        steps = [line for line in log_lines(there / "log.jsonl") if "loss" in line]
        self.assertEqual(losses(steps), losses(alone))
        self.assertEqual((there / "checkpoint-4/adapter_model.safetensors").read_bytes(),
                         (here / "checkpoint-4/adapter_model.safetensors").read_bytes())

    def test_link_finds_the_rate_of_the_wire(self):
        out, _ = self.both("link", "--json", "--sizes", "4MiB", "--repeats", 3)
        document = json.loads(out)
        self.assertEqual(document["hosts"], ["gpu1", "gpu2"])
        rates = [size["algbw_bytes_per_s"] for pair in document["pairs"] for size in pair["sizes"]]
        self.assertLessEqual(max(rates), 1.1 * 50e6, "nothing is faster than its wire")

    def test_a_lost_rank_is_named_with_its_host(self):
        ranks = [self.start(rank, "link", "--sizes", "1MiB", "--repeats", 1000) for rank in (0, 1)]
        self.assertIn("2 ranks", ranks[0].stderr.readline())
        time.sleep(0.5)
        os.kill(ranks[1].pid, signal.SIGKILL)  # `ip`, `unshare` and `sh` have become the program
        ranks[1].communicate()
        _, err = ranks[0].communicate(timeout=60)
        self.assertEqual(ranks[0].returncode, 1, err)
        self.assertRegex(err, r"rank 0: rank 1 on gpu2 \(pid \d+\) is lost")

    def test_a_host_that_is_not_there(self):
        for address, reason in (("10.98.0.1", "no route to host '10.98.0.1'"), ("10.99.7.9", r"10\.99\.7\.9:29641 does not answer"),
                                ("no-such-host.invalid", "host 'no-such-host.invalid' is not known")):
            rank = self.start(1, "link", "--timeout", 3, address=address)
            _, err = rank.communicate(timeout=60)
            self.assertEqual(rank.returncode, 1, err)
            self.assertRegex(err, reason)
            self.assertNotRegex(err, r"client socket|\[c10d\]")


if __name__ == "__main__":
    unittest.main(verbosity=2)
