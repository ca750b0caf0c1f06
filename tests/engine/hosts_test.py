"""Two hosts: network namespaces of this machine, with names of their own and a slow link between them."""
import json
import os
import signal
import sys
import time
import unittest

from engine_runs import ENGINE, SOURCE, EngineCase, log_lines, losses

sys.path.insert(0, str(SOURCE / "bench"))
from two_hosts import NoNamespaces, TwoHosts  # noqa: E402

WORK = ["--steps", 4, "--seq", 32, "--global-batch", 4, "--lr", "2e-3", "--threads", "1"]


class TwoHostsTest(EngineCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        try:
            cls.hosts = TwoHosts("10.99.7", 29641)
            cls.addClassCleanup(cls.hosts.close)
            cls.hosts.limit(400)
        except NoNamespaces as error:
            raise unittest.SkipTest(str(error))

    def start(self, rank, *words, address=None):
        process = self.hosts.start(rank, [ENGINE, *words], address)
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
        self.assertIn(f"2 ranks, gloo over wire (towards the other hosts, from {self.hosts.addresses[0]})", err)
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
