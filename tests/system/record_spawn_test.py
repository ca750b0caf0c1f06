"""Ranks that a program starts by itself are told from data-loader workers, which have the same command line."""
import csv
import glob
import os
import socket
import sys
import unittest

from record_harness import DRIVER, PYTHON, RecordTest

# Two children, forked or spawned: joined by a TCP connection, as ranks are, or not.
PROGRAM = """
import multiprocessing, socket, sys, time

def work(index, port, joined):
    if joined:
        if index == 0:
            listener = socket.create_server(("127.0.0.1", port.value))
            port.value = listener.getsockname()[1]
            held = listener.accept()[0]
        else:
            while port.value == 0: time.sleep(0.01)
            held = socket.create_connection(("127.0.0.1", port.value))
    end = time.monotonic() + 3
    step = 0
    while time.monotonic() < end:
        step += sum(range(2000)) > 0
        if index == 0 and step % 300 == 0: print({'loss': 1.0, 'step': step}, flush=True)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    port = context.Value("i", 0)
    children = [context.Process(target=work, args=(i, port, sys.argv[2] == "joined")) for i in range(2)]
    for child in children: child.start()
    for child in children: child.join()
"""

# A helper that the program leaves behind; the real one, multiprocessing's resource tracker, does so for a moment.
LEAVES = """
import subprocess, sys, time
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3)"])
end, step = time.monotonic() + 2, 0
while time.monotonic() < end:
    step += sum(range(2000)) > 0
    if step % 300 == 0: print({'loss': 1.0, 'step': step}, flush=True)
"""


# One rank of two that a launcher started on two hosts: it meets the other at MASTER_PORT, or trains alone.
ONE_OF_TWO = """
import os, socket, sys, time
if sys.argv[1] == "joined":
    held = socket.create_connection(("127.0.0.1", int(os.environ["MASTER_PORT"])))
end, step = time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < end:
    step += sum(range(2000)) > 0
    if step % 300 == 0: print({'loss': 1.0, 'step': step}, flush=True)
"""


class Spawned(RecordTest):
    def one_of_two(self, how):
        with socket.create_server(("127.0.0.1", 0)) as elsewhere:
            place = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(elsewhere.getsockname()[1])}
            recorded = self.run_recorded([PYTHON, "-c", ONE_OF_TWO, how, "4"], env={**os.environ, **place})
        self.assertEqual(recorded.returncode, 0, recorded.stderr)
        shown = self.show()
        self.assertEqual(shown["ranks_asked"], 2)
        return shown["ranks_trained"]

    def test_ranks_of_other_hosts(self):
        self.assertEqual(self.one_of_two("joined"), 2)

    def test_a_world_that_was_asked_for_and_never_joined(self):
        self.assertEqual(self.one_of_two("alone"), 1)

    def test_a_helper_left_behind_is_no_rank(self):
        recorded = self.run_recorded([PYTHON, "-c", LEAVES])
        self.assertEqual(recorded.returncode, 0, recorded.stderr)
        run_dir = self.the_run()
        roles = {}
        for table in glob.glob(os.path.join(run_dir, "watch", "*.proc.csv")):
            with open(table, newline="") as rows:
                for row in csv.DictReader(rows):
                    roles.setdefault(row["pid"], set()).add(row["role"])
        self.assertEqual(sorted(roles.values(), key=sorted), [{"other"}, {"rank"}])
        self.assertEqual(self.show(run_dir)["ranks_trained"], 1)

    def roles(self, how, joined):
        path = os.path.join(self.folder, "train.py")
        with open(path, "w") as text:
            text.write(PROGRAM)
        runs = os.path.join(self.folder, f"{how}-{joined}")
        recorded = self.run_recorded([PYTHON, path, how, joined], runs=runs)
        self.assertEqual(recorded.returncode, 0, recorded.stderr)
        run_dir = self.the_run(runs)
        last = {}
        for table in glob.glob(os.path.join(run_dir, "watch", "*.proc.csv")):
            with open(table, newline="") as rows:
                for row in csv.DictReader(rows):
                    last[row["pid"]] = row
        parents = {row["ppid"] for row in last.values()}
        top = [row for pid, row in last.items() if row["ppid"] not in last]
        self.assertTrue(top and parents)
        children = [row["role"] for row in last.values() if row["ppid"] == top[0]["pid"] and row["role"] != "other"]
        return top[0]["role"], sorted(children), self.show(run_dir)

    def test_ranks(self):
        for how in ("spawn", "fork"):
            parent, children, shown = self.roles(how, "joined")
            self.assertEqual((parent, children), ("launcher", ["rank", "rank"]), how)
            self.assertEqual(shown["ranks_trained"], 2, how)
            self.assertNotIn("ranks_asked", shown)

    def test_workers(self):
        for how in ("spawn", "fork"):
            parent, children, shown = self.roles(how, "apart")
            self.assertEqual((parent, children), ("rank", ["loader", "loader"]), how)
            self.assertEqual(shown["ranks_asked"], 1)


if __name__ == "__main__":
    if not os.path.exists(DRIVER):
        print("skipped: no record_driver in", DRIVER)
        sys.exit(0)
    unittest.main(verbosity=2)
