"""Recorder, front and keeper are killed at random instants; disks fill, folders vanish: the command never notices.

RIGWISE_KILLS (30) is how often the recorder is killed.
"""
import glob
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import unittest

from record_harness import (DRIVER, LIMIT_S, PYTHON, RecordTest, children_of, is_alive, title_of, wait_for)

# Prints numbered lines on both streams for about a second, and says at the end that it got there.
TRAINING = """
import os, sys, time
for i in range({lines}):
    os.write(1, b'step %d loss %f\\n' % (i, 1 / (i + 1)))
    os.write(2, b'\\r%d/{lines}' % i)
    time.sleep({pause})
os.write(1, b'done\\n')
open(sys.argv[1], 'w').write('ended normally')
"""


def expected(lines):
    out = b"".join(b"step %d loss %f\n" % (i, 1 / (i + 1)) for i in range(lines)) + b"done\n"
    return out, b"".join(b"\r%d/%d" % (i, lines) for i in range(lines))


class Kills(RecordTest):
    def training(self, lines=200, pause=0.002):
        self.proof = os.path.join(self.folder, "proof")
        return [PYTHON, "-S", "-c", TRAINING.format(lines=lines, pause=pause), self.proof]

    def check_logs(self, lines, run_dir=None):
        out, err = expected(lines)
        self.assertTrue(self.log("out", run_dir) == out, "log/out.log differs")
        self.assertTrue(self.log("err", run_dir) == err, "log/err.log differs")

    def test_recorder_killed_at_random_instants(self):
        seed = int(os.environ.get("RIGWISE_SEED", random.randrange(10**6)))
        print(f"(seed {seed})", end=" ", flush=True)
        choose = random.Random(seed)
        said_missing = early = 0
        lines = 200
        for number in range(int(os.environ.get("RIGWISE_KILLS", 30))):
            runs = os.path.join(self.folder, f"kill{number}")
            front = self.start(self.training(lines), runs=runs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            # Half of the instants lie in the start, where most happens.
            time.sleep(choose.uniform(0, 0.08 if number % 2 else 0.8))
            recorders = [c for c in children_of(front.pid) if title_of(c)]
            if recorders:
                os.kill(recorders[0], signal.SIGKILL)
            out, err = front.communicate(timeout=LIMIT_S)
            out_expected, err_expected = expected(lines)
            self.assertEqual(front.returncode, 0, f"kill {number}: {err[-300:]!r}")
            self.assertTrue(out == out_expected, f"kill {number}: stdout differs")
            self.assertIn(err_expected, err, f"kill {number}: stderr differs")
            with open(self.proof) as text:
                self.assertEqual(text.read(), "ended normally")
            os.remove(self.proof)
            if not glob.glob(os.path.join(runs, "*", "run.json")):
                early += 1  # killed before there was a run directory
                self.assertIn(b"unrecorded", err)
                continue
            # A recorder that died before its keeper is replaced: then there may be two folders, the first without an end.
            run_dir = max(glob.glob(os.path.join(runs, "*")), key=os.path.getmtime)
            self.check_logs(lines, run_dir)
            shown = self.show(run_dir)
            self.assertEqual(shown["state"], "finished")
            self.assertEqual(shown["exit_status"], 0)
            said_missing += any("recorder was killed" in what for what in shown["missing"])
            shutil.rmtree(runs)
        print(f"({said_missing} said that the recorder was killed, {early} before there was a run)", end=" ")
        self.assertGreater(said_missing, 0)

    def test_front_killed(self):
        front = self.start(self.training(300, 0.005), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.family(front.pid)
        front.kill()
        front.wait()
        wait_for(lambda: os.path.exists(self.proof))
        wait_for(lambda: self.show()["state"] == "finished")
        self.check_logs(300)
        self.assertEqual(self.show()["exit_status"], 0)

    def test_front_and_recorder_killed(self):
        front = self.start(self.training(300, 0.005), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        recorder, keeper, _ = self.family(front.pid)
        run_dir = self.wait_for_run()
        self.assertEqual(self.show(run_dir)["state"], "running")
        front.kill()
        os.kill(recorder, signal.SIGKILL)
        front.wait()
        wait_for(lambda: os.path.exists(self.proof))
        wait_for(lambda: not is_alive(keeper))
        self.check_logs(300)
        shown = self.show()
        self.assertEqual((shown["state"], shown["exit_status"], shown["reason"]), ("torn", 0, "exited"))
        self.assertTrue(shown["missing"])

    def test_keeper_killed(self):
        program = "import signal,time\nsignal.signal(signal.SIGPIPE, signal.SIG_IGN)\ntime.sleep(1.5)\nraise SystemExit(9)"
        front = self.start([PYTHON, "-S", "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, keeper, _ = self.family(front.pid)
        self.wait_for_run()
        os.kill(keeper, signal.SIGKILL)
        self.assertEqual(front.wait(LIMIT_S), 9)
        shown = self.show()
        self.assertEqual((shown["state"], shown["exit_status"]), ("finished", 9))
        self.assertTrue(any("keeper was killed" in what for what in shown["missing"]), shown)

    def test_recorder_that_hangs(self):
        front = self.start(["sh", "-c", "sleep 0.7; exit 6"], stderr=subprocess.PIPE)
        recorder, _, _ = self.family(front.pid)
        self.wait_for_run()
        os.kill(recorder, signal.SIGSTOP)
        self.assertEqual(front.wait(LIMIT_S), 6)
        shown = self.show()
        self.assertEqual((shown["state"], shown["exit_status"]), ("finished", 6))
        self.assertTrue(any("did not answer" in what for what in shown["missing"]), shown)

    def test_running_is_told_from_torn(self):
        front = self.start(["sleep", "60"])
        self.family(front.pid)
        run_dir = self.wait_for_run()
        self.assertEqual(self.show(run_dir)["state"], "running")
        front.terminate()
        front.wait(LIMIT_S)
        self.assertEqual(self.show(run_dir)["state"], "finished")


class Disks(RecordTest):
    def small_disk(self, size):
        disk = os.path.join(self.folder, "disk")
        os.mkdir(disk)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk], capture_output=True).returncode != 0:
            self.skipTest("no right to mount a small tmpfs")
        self.addCleanup(subprocess.run, ["umount", "-l", disk], capture_output=True)
        return disk

    def test_full_disk(self):
        disk = self.small_disk("2m")
        command = [PYTHON, "-S", "-c", "import os\nfor i in range(12000): os.write(1, b'%07d' % i + b'x' * 992 + b'\\n')"]
        recorded = self.run_recorded(command, runs=disk)
        self.assertEqual(recorded.returncode, 0)
        self.assertEqual(recorded.stdout, self.run_plain(command).stdout)
        log = glob.glob(os.path.join(disk, "*", "log", "out.log"))[0]
        with open(log, "rb") as text:
            kept = text.read()
        self.assertTrue(recorded.stdout.startswith(kept) and len(kept) > 0, "what is in the log is the beginning of the output")

    def test_disk_that_the_command_fills(self):
        # A checkpoint takes the last room: rows are lost and counted by table, and the run is closed all the same.
        disk = self.small_disk("4m")
        program = ("import os,sys,time\ntime.sleep(0.6)\nwith open(sys.argv[1], 'wb', 0) as f:\n try:\n"
                   "  while True: f.write(b'x' * 4096)\n except OSError: pass\ntime.sleep(1)\nsys.exit(3)")
        recorded = self.run_recorded([PYTHON, "-S", "-c", program, os.path.join(disk, "ballast")], runs=os.path.join(disk, "runs"),
                                     extra=("--interval", "0.05"))
        self.assertEqual(recorded.returncode, 3, recorded.stderr)
        run_dir = self.the_run(os.path.join(disk, "runs"))
        shown = self.show(run_dir)
        self.assertEqual((shown["state"], shown["exit_status"]), ("finished", 3))
        self.assertTrue(any(what.startswith("watch/") and "could not be written" in what for what in shown["missing"]), shown)

    def test_disk_that_gets_room_again(self):
        disk = self.small_disk("3m")
        ballast = os.path.join(disk, "ballast")
        program = ("import os,sys\nfor i in range(int(1e4)): os.write(1, b'%07d' % i + b'x' * 992 + b'\\n')\n"
                   "sys.stdin.readline()\nos.write(1, b'with room again\\n')\nsys.stdin.readline()")
        front = self.start([PYTHON, "-S", "-c", program], runs=disk, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        run_dir = self.wait_for_run(disk)
        log = os.path.join(run_dir, "log", "out.log")
        for _ in range(10000):
            front.stdout.readline()
        with open(ballast, "wb"):
            pass
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        wait_for(lambda: os.path.getsize(log) > 3 * 2**20)
        front.stdin.write(b"\n")
        front.stdin.flush()
        self.assertEqual(front.stdout.readline(), b"with room again\n")
        front.stdin.close()
        self.assertEqual(front.wait(LIMIT_S), 0)
        front.stdout.close()
        # The log, with the holes that log/out.lost.csv tells of, is the whole output.
        with open(log, "rb") as text:
            kept = text.read()
        whole = b"".join(b"%07d" % i + b"x" * 992 + b"\n" for i in range(10000)) + b"with room again\n"
        rebuilt, at = 0, 0
        rows = []
        lost = os.path.join(run_dir, "log", "out.lost.csv")
        if os.path.exists(lost):
            with open(lost) as text:
                rows = [[float(x) for x in row.split(",")] for row in text.read().splitlines()[1:]]
        for offset, gone, _ in [*rows, [len(kept), 0, 0]]:
            part = kept[at:int(offset)]
            self.assertEqual(whole[rebuilt:rebuilt + len(part)], part)
            rebuilt, at = rebuilt + len(part) + int(gone), int(offset)
        self.assertEqual(rebuilt, len(whole))
        self.assertEqual(self.show(run_dir)["lost_log_bytes"], sum(row[1] for row in rows))

    def test_folder_that_cannot_be_made(self):
        blocked = os.path.join(self.folder, "file")
        with open(blocked, "w"):
            pass
        recorded = self.run_recorded(["sh", "-c", "echo trained; exit 5"], runs=os.path.join(blocked, "runs"))
        self.assertEqual((recorded.returncode, recorded.stdout), (5, b"trained\n"))
        self.assertEqual(recorded.stderr.count(b"training unrecorded"), 1, recorded.stderr)

    def test_read_only_folder(self):
        disk = self.small_disk("1m")
        if subprocess.run(["mount", "-o", "remount,ro", disk], capture_output=True).returncode != 0:
            self.skipTest("no right to remount")
        recorded = self.run_recorded(["sh", "-c", "echo trained; exit 5"], runs=disk)
        self.assertEqual((recorded.returncode, recorded.stdout), (5, b"trained\n"))
        self.assertEqual(recorded.stderr.count(b"training unrecorded"), 1, recorded.stderr)

    def test_folder_that_vanishes(self):
        front = self.start(["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.2; done; exit 2"],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.wait_for_run()
        front.stdout.readline()
        while os.path.exists(self.runs):  # the recorder may be writing into it at this very moment
            shutil.rmtree(self.runs, ignore_errors=True)
        out, _ = front.communicate(timeout=LIMIT_S)
        self.assertEqual((front.returncode, out), (2, b"2\n3\n4\n5\n6\n7\n8\n"))


if __name__ == "__main__":
    if not os.path.exists(DRIVER):
        print("skipped: no record_driver in", DRIVER)
        sys.exit(0)
    unittest.main(verbosity=2)
