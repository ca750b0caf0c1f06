"""Programs that really hang, and programs that only are silent: what is found, who is named, and that nothing is harmed.

Cases with torch (torchrun with two ranks on the CPU) run where RIGWISE_PYTHON, .venv of the source folder or this Python has torch.
"""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import time
import unittest

from record_harness import BINARY, DRIVER, RecordTest, Terminal, is_alive, wait_for

SOURCE = pathlib.Path(__file__).resolve().parents[2]
WAIT_S = 300  # torch starts slowly on a busy machine


def torch_python():
    for python in (os.environ.get("RIGWISE_PYTHON"), str(SOURCE / ".venv/bin/python"), sys.executable):
        if not python or not os.path.exists(python):
            continue
        found = subprocess.run([python, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)"])
        if found.returncode == 0:
            return python
    return None


PYTHON = torch_python()
needs_torch = unittest.skipIf(PYTHON is None, "no Python with torch (RIGWISE_PYTHON)")

# Two ranks that train a small model; `broken` is what goes wrong in it.
RANKS = """
import os, signal, sys, threading, time
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank = dist.get_rank()

class Rows(Dataset):
    def __len__(self):
        return 100000
    def __getitem__(self, index):
        {row}
        return torch.ones(4)

def train():
    model = torch.nn.Linear(4, 1)
    for step, batch in enumerate(DataLoader(Rows(), batch_size=4, num_workers={workers}), 1):
        loss = model(batch).mean()
        loss.backward()
        {sync}
        if rank == 0:
            print("step", step, "loss", float(loss.detach()), flush=True)
        time.sleep(0.05)
        {after}

def reduce_gradients(model):
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)

open("pid.%d" % rank, "w").write(str(os.getpid()))
train()
"""


def ranks(row="pass", workers=0, sync="reduce_gradients(model)", after="pass"):
    return RANKS.format(row=row, workers=workers, sync=sync, after=after)


@unittest.skipIf(BINARY == DRIVER, "the whole program is needed")
class Hang(RecordTest):
    def setUp(self):
        super().setUp()
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1"}

    def tearDown(self):
        self.kill_ranks()
        super().tearDown()

    # ---- starting

    def write(self, text, name="train.py"):
        pathlib.Path(self.folder, name).write_text(textwrap.dedent(text).lstrip("\n"))

    def begin(self, command, after="3s", extra=(), **more):
        return self.start(command, extra=("--interval", "0.2", "--hang-after", after, *extra), cwd=self.folder, env=self.environment,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def begin_ranks(self, text, **more):
        self.write(text)
        return self.begin([PYTHON, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "train.py"], **more)

    # ---- looking

    def rows(self):
        """The lines of hangs.jsonl so far."""
        found = list(pathlib.Path(self.runs).glob("*/hangs.jsonl"))
        return [json.loads(line) for line in found[0].read_text().split("\n")[:-1]] if found else []

    def wait_for_hang(self):
        def found():
            return [row for row in self.rows() if "verdict" in row]
        return wait_for(found, WAIT_S)[0]

    def rigwise(self, *words, check=True):
        ran = subprocess.run([BINARY, *words, "--runs", self.runs], capture_output=True, text=True, timeout=WAIT_S)
        if check:
            self.assertIn(ran.returncode, (0, 3), ran.stderr)
        return ran.stdout

    def kill_ranks(self):
        for path in pathlib.Path(self.folder).glob("pid.*"):
            try:
                os.kill(int(path.read_text()), signal.SIGKILL)
            except (OSError, ValueError):  # it has ended, or never came so far
                pass

    def end(self, process):
        self.kill_ranks()
        process.terminate()
        out, err = process.communicate(timeout=WAIT_S)
        return out.decode(), err.decode()

    def process_of(self, hang, rank):
        return next(each for each in hang["processes"] if each["role"] == "rank" and each.get("rank") == rank)

    # ---- hangs

    @needs_torch
    def test_a_rank_whose_data_do_not_come(self):
        os.mkfifo(os.path.join(self.folder, "rows.pipe"))
        process = self.begin_ranks(ranks(row="if rank == 1 and index > 40: open(os.path.abspath('rows.pipe')).read()"))
        hang = self.wait_for_hang()
        verdict = hang["verdict"]
        self.assertEqual((verdict["cause"], verdict["ranks"]), ("input", [1]), verdict)
        self.assertRegex(verdict["where"], r"rank 1 sits in DataLoader\.__next__ on \S*/rows\.pipe \(train\.py:\d+\), rank 0 waits in all_reduce")
        self.assertIsNotNone(hang["last_step"])
        self.assertEqual(self.process_of(hang, 1)["frames"][0]["function"].split(".")[-1], "__getitem__")
        text = self.rigwise("stacks", "r")
        self.assertIn("the cause is rank 1's input", text)
        self.assertIn("Rows.__getitem__", text)
        out, err = self.end(process)
        self.assertNotIn("rigwise", out)
        # What the run says of itself once it is over, and what triage and ledger make of it.
        failure = json.loads(self.rigwise("triage", "r", "--json"))
        self.assertEqual((failure["layer"], failure["rank"], failure["signature"]), ("data_pipeline", 1, "hang-input"), failure)
        ledger = json.loads(self.rigwise("ledger", "r", "--json"))
        self.assertIn("run-hung", [finding["id"] for finding in ledger["findings"]])
        self.assertEqual(self.rows()[-1]["state"], "ended")
        shown = json.loads(self.rigwise("runs", "show", "r", "--json"))
        self.assertEqual(shown["hangs"][0]["verdict"]["ranks"], [1])

    @needs_torch
    def test_a_stopped_rank_and_its_return(self):
        process = self.begin_ranks(ranks())
        wait_for(lambda: b"step 20 " in self.log_so_far(), WAIT_S)
        stopped = int(pathlib.Path(self.folder, "pid.1").read_text())
        os.kill(stopped, signal.SIGSTOP)
        hang = self.wait_for_hang()
        self.assertEqual((hang["verdict"]["cause"], hang["verdict"]["ranks"]), ("stopped", [1]), hang["verdict"])
        self.assertEqual(self.process_of(hang, 1)["state"], "T")
        self.assertIsNone(process.poll())
        os.kill(stopped, signal.SIGCONT)

        def over():
            return [row for row in self.rows() if row.get("state") == "over"]
        wait_for(over, WAIT_S)
        self.end(process)
        events = pathlib.Path(self.the_run(), "events.csv").read_text()
        self.assertRegex(events, r"(?m)^[0-9.]+,[0-9.]+,gap,hang 1,over,")

    @needs_torch
    def test_ranks_in_different_collectives(self):
        process = self.begin_ranks(ranks(after="if rank == 1 and step == 10: dist.broadcast(torch.ones(1), 0)"))
        hang = self.wait_for_hang()
        self.assertEqual(hang["verdict"]["cause"], "mismatch", hang["verdict"])
        self.assertRegex(hang["verdict"]["where"], r"rank 0 waits in all_reduce .*rank 1 waits in broadcast")
        self.end(process)

    @needs_torch
    def test_words_that_repeat_are_no_progress(self):
        """A thread of rank 0 prints that it still waits, ten times within the threshold."""
        beat = ("if rank == 0 and step == 1: threading.Thread(target=lambda: [(print('still waiting, %d' % i, flush=True), "
                "time.sleep(0.3)) for i in range(10000)], daemon=True).start()")
        process = self.begin_ranks(ranks(after=beat + "\n        if rank == 1 and step == 10: time.sleep(1000)"))
        hang = self.wait_for_hang()
        self.assertEqual(hang["verdict"]["ranks"], [1], hang["verdict"])
        self.assertIn(b"still waiting", self.log_so_far())
        self.end(process)

    @needs_torch
    def test_a_worker_that_was_forked_with_a_lock(self):
        self.write("""
            import os, threading
            import torch
            from torch.utils.data import DataLoader, Dataset
            lock = threading.Lock()
            class Rows(Dataset):
                def __len__(self):
                    return 64
                def __getitem__(self, index):
                    with lock:
                        return torch.ones(4)
            open("pid.0", "w").write(str(os.getpid()))
            print("step 1 loss 1.0", flush=True)
            lock.acquire()
            for batch in DataLoader(Rows(), batch_size=4, num_workers=1, multiprocessing_context="fork"):
                pass
            """)
        process = self.begin([PYTHON, "train.py"])
        hang = self.wait_for_hang()
        self.assertEqual(hang["verdict"]["cause"], "input", hang["verdict"])
        self.assertRegex(hang["verdict"]["where"], r"its worker \(pid \d+\) waits for a lock or another thread in Rows\.__getitem__ \(train\.py:\d+\)")
        self.assertIn("spawn", hang["verdict"]["advice"])
        worker = int(re.search(r"worker \(pid (\d+)\)", hang["verdict"]["where"]).group(1))
        os.kill(worker, signal.SIGKILL)  # it outlives its parent, lock and terminal in hand
        self.end(process)

    def test_somebody_is_asked(self):
        self.write("""
            import os
            open("pid.0", "w").write(str(os.getpid()))
            print("step 1 loss 1.0", flush=True)
            input("go on? ")
            """)
        terminal = Terminal(["bash", "-c", f"cd {self.folder}; exec " + " ".join(
            self.words([sys.executable, "train.py"], extra=("--interval", "0.2", "--hang-after", "3s")))])
        try:
            hang = self.wait_for_hang()
            self.assertEqual(hang["verdict"]["cause"], "terminal", hang["verdict"])
            self.assertIn("train.py:4", hang["verdict"]["where"])
            terminal.expect(b"go on? ")
            terminal.type(b"yes\n")
            self.assertEqual(terminal.wait(), 0)  # an answer lets it go on: nothing was harmed
            self.assertNotIn(b"rigwise", terminal.shown)
        finally:
            terminal.end()
        self.assertEqual(self.rows()[-1]["state"], "over")

    # ---- silences that are none

    @needs_torch
    def test_a_silent_evaluation_of_one_rank(self):
        """Rank 0 computes for several times the threshold without a word, rank 1 waits at the barrier: nothing tells that from a
        loop without end, so it is told as what it is, and nothing is stopped."""
        process = self.begin_ranks(ranks(after="""
        if step == 5:
            if rank == 0:
                end = time.monotonic() + 20
                while time.monotonic() < end:
                    torch.ones(300, 300) @ torch.ones(300, 300)
            dist.barrier()
            print("evaluated", flush=True)
        """.strip()), extra=("--on-hang", "stop"))
        verdict = self.wait_for_hang()["verdict"]
        self.assertTrue(verdict["at_work"], verdict)
        self.assertEqual(verdict["ranks"], [0])
        self.assertRegex(verdict["because"], "the others wait for rank 0, which is at work: long work, or a loop without end")
        wait_for(lambda: b"evaluated" in self.log_so_far(), WAIT_S)
        wait_for(lambda: self.rows()[-1].get("state") == "over", WAIT_S)
        self.end(process)

    def test_a_long_step_without_a_word(self):
        """One call of C for several times the threshold: nothing moves in Python, and it is at work."""
        self.write("""
            import hashlib, time
            print("step 1 loss 1.0", flush=True)
            rounds = 1 << 16
            began = time.monotonic()
            hashlib.pbkdf2_hmac("sha256", b"a", b"b", rounds)
            hashlib.pbkdf2_hmac("sha256", b"a", b"b", int(rounds * 15 / (time.monotonic() - began)))
            print("step 2 loss 0.9", flush=True)
            """)
        done = self.run_recorded([sys.executable, "train.py"], extra=("--interval", "0.2", "--hang-after", "3s"), cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.rows(), [])

    def test_off_is_off(self):
        done = self.run_recorded([sys.executable, "-c", "import time; time.sleep(4)"],
                                 extra=("--interval", "0.2", "--hang-after", "off"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.rows(), [])

    # ---- ending

    def test_stop_ends_it_as_ctrl_c_does(self):
        os.mkfifo(os.path.join(self.folder, "rows.pipe"))
        self.write("""
            import os
            open("pid.0", "w").write(str(os.getpid()))
            print("step 1 loss 1.0", flush=True)
            try:
                open("rows.pipe").read()
            finally:
                print("saved on the way out", flush=True)
            """)
        process = self.begin([sys.executable, "train.py"], extra=("--on-hang", "stop"))
        out, err = process.communicate(timeout=WAIT_S)
        self.assertIn(b"saved on the way out", out)
        self.assertNotEqual(process.returncode, 0)
        with open(os.path.join(self.the_run(), "run.json")) as text:
            self.assertEqual(json.load(text)["ending"]["reason"], "stopped for a hang")
        self.assertEqual(self.rows()[-1]["state"], "stopped")
        self.assertFalse(is_alive(int(pathlib.Path(self.folder, "pid.0").read_text())))
        self.assertIn("stopped by rigwise", self.rigwise("runs", "show", "r"))
        failure = json.loads(self.rigwise("triage", "r", "--json"))
        self.assertEqual(failure["first_meaningful"]["file"], "hangs.jsonl", failure)
        self.assertIn("rows.pipe", failure["first_meaningful"]["text"])

    @needs_torch
    def test_stop_leaves_no_rank_behind(self):
        """A stopped rank takes no polite word: the launcher's teardown, then SIGKILL, end it."""
        process = self.begin_ranks(ranks(), extra=("--on-hang", "stop"))
        wait_for(lambda: b"step 5 " in self.log_so_far(), WAIT_S)
        pids = [int(pathlib.Path(self.folder, f"pid.{rank}").read_text()) for rank in (0, 1)]
        os.kill(pids[1], signal.SIGSTOP)
        process.communicate(timeout=WAIT_S)
        wait_for(lambda: not any(is_alive(pid) for pid in pids), WAIT_S)
        self.assertEqual(self.rows()[-1]["state"], "stopped")

    def log_so_far(self):
        found = list(pathlib.Path(self.runs).glob("*/log/out.log"))
        return found[0].read_bytes() if found else b""


if __name__ == "__main__":
    unittest.main(verbosity=2)
