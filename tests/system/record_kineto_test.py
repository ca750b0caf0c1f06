"""Windows of an unedited PyTorch script under `rigwise run`: they come, they do not show, they keep nobody waiting.

Needs a Python with torch 2.7 or newer: RIGWISE_PYTHON, .venv of the source folder, or this one; skipped without it.
"""
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import unittest

from record_harness import BINARY, DRIVER, LIMIT_S, RecordTest, is_alive, wait_for

SOURCE = os.environ.get("RIGWISE_SOURCE", ".")


def torch_python():
    for python in (os.environ.get("RIGWISE_PYTHON"), os.path.join(SOURCE, ".venv/bin/python"), sys.executable):
        if not python or not os.access(python, os.X_OK):
            continue
        asked = subprocess.run([python, "-c", "import importlib.util as u; s = u.find_spec('torch'); "
                                "print(open(s.submodule_search_locations[0] + '/version.py').read() if s else '')"],
                               capture_output=True, text=True)
        for line in asked.stdout.splitlines():
            if line.startswith("__version__"):
                major, minor = line.split("'")[1].split(".")[:2]
                if (int(major), int(minor)) >= (2, 7):
                    return python
    return None


PYTHON = torch_python()

# Trains until the file `stop` lies beside it (or for two minutes), and says when its last line was.
TRAIN = """
import os, time
import torch


def say(text):
    try:
        print(text, flush=True)
    except OSError:
        pass  # nobody reads: the keeper was killed


torch.set_num_threads(1)
rank = int(os.environ.get("RANK", "0"))
model = torch.nn.Linear(64, 64)
if "RANK" in os.environ:
    torch.distributed.init_process_group("gloo")
    model = torch.nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.AdamW(model.parameters())
stop = torch.zeros(1)
began = time.time()
step = 0
while not stop.item():
    loss = model(torch.randn(8, 64)).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    step += 1
    time.sleep(0.02)
    if step % 10 == 0:
        if rank == 0:
            say(f"step {step} loss {loss.item():.4f}")
            stop[0] = os.path.exists("stop") or time.time() - began > 120
        if "RANK" in os.environ:
            torch.distributed.broadcast(stop, 0)
say("ended")
"""


@unittest.skipIf(PYTHON is None, "no Python with torch 2.7 or newer (RIGWISE_PYTHON names one)")
@unittest.skipIf(BINARY == DRIVER, "needs the real program: --profile takes numbers there")
class Kineto(RecordTest):
    SOON = ("--interval", "0.2", "--profile", "first=0,length=0.5,windows=1")

    def setUp(self):
        # libkineto looks at its clock once a second and refuses what comes too late for it.
        if os.getloadavg()[0] > 4 * os.cpu_count():
            self.skipTest("the machine is too busy: four processes and more wait for every core")
        super().setUp()
        self.script = os.path.join(self.folder, "train.py")
        with open(self.script, "w") as text:
            text.write(TRAIN)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("KINETO_")}
        self.env["OMP_NUM_THREADS"] = "1"

    def begin(self, command=None, extra=SOON, env=None, **more):
        return self.start(command or [PYTHON, "train.py"], extra=extra, cwd=self.folder, env=env or self.env,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def stop(self):
        with open(os.path.join(self.folder, "stop"), "w"):
            pass

    def end(self, process):
        self.stop()
        out, err = process.communicate(timeout=LIMIT_S)
        self.assertEqual(process.returncode, 0, err[-2000:])
        return out.decode(), err.decode()

    def windows(self, run_dir):
        try:
            with open(os.path.join(run_dir, "events.csv")) as text:
                rows = [line.rstrip("\n").split(",") for line in text]
        except OSError:
            return []
        return [dict(zip(rows[0], row)) for row in rows[1:] if "profile_window" in row]

    def whole(self, run_dir, count=1):
        """Waits for that many whole windows."""
        return wait_for(lambda: [w for w in self.windows(run_dir) if w["state"] == "whole"][count - 1:] and
                        [w for w in self.windows(run_dir) if w["state"] == "whole"], 240)

    def steps(self, run_dir):
        try:
            with open(os.path.join(run_dir, "steps.csv")) as text:
                return len(text.readlines()) - 1
        except OSError:
            return 0

    def no_traces(self, run_dir):
        self.assertEqual(glob.glob(os.path.join(run_dir, "profile", "trace-*")), [])
        self.assertEqual(self.windows(run_dir), [])

    def folders(self):
        base = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"
        return set(glob.glob(os.path.join(base, "rigwise-kineto-*")))

    # ---- windows

    def test_a_window_comes_and_does_not_show(self):
        before = self.folders()
        process = self.begin()
        run_dir = self.wait_for_run()
        window = self.whole(run_dir)[0]
        out, err = self.end(process)
        self.assertEqual(err, "")
        self.assertTrue(all(line.startswith("step ") or line == "ended" for line in out.splitlines()), out[:500])
        self.assertEqual(self.folders() - before, set())
        self.assertEqual(window["how"], "kineto")
        self.assertEqual(window["rank"], "0")
        self.assertLess(abs(float(window["t_end_s"]) - float(window["t_s"]) - 0.5), 1.5)
        with open(os.path.join(run_dir, window["name"])) as text:
            trace = json.load(text)
        self.assertEqual(int(window["size_bytes"]), os.path.getsize(os.path.join(run_dir, window["name"])))
        steps = [e for e in trace["traceEvents"] if e.get("name", "").startswith("Optimizer.step#")]
        self.assertTrue(steps, "the trace holds no optimizer step")
        with open(os.path.join(run_dir, "profile/windows.csv")) as text:
            rows = text.read().splitlines()
        self.assertEqual(len(rows), 2)
        self.assertIn(window["name"], rows[1])
        # one clock: the steps lie where the event says the window was
        with open(os.path.join(run_dir, "run.json")) as text:
            start_unix_s = json.load(text)["start_unix_s"]
        base_s = trace["baseTimeNanoseconds"] / 1e9
        for step in steps:
            t_s = base_s + step["ts"] / 1e6 - start_unix_s
            self.assertGreater(t_s, float(window["t_s"]) - 1.5)
            self.assertLess(t_s, float(window["t_end_s"]) + 1.5)

    def test_torchrun_traces_both_ranks_and_not_the_launcher(self):
        torchrun = os.path.join(os.path.dirname(PYTHON), "torchrun")
        if not os.path.exists(torchrun):
            self.skipTest("no torchrun beside " + PYTHON)
        process = self.begin([torchrun, "--standalone", "--nproc_per_node", "2", "train.py"])
        run_dir = self.wait_for_run()
        windows = self.whole(run_dir, 2)
        self.assertEqual(sorted(w["rank"] for w in windows), ["0", "1"])
        begins = [float(w["t_s"]) for w in windows]
        self.assertLess(max(begins) - min(begins), 2)  # asked for the same instant
        self.end(process)
        self.assertEqual(len(glob.glob(os.path.join(run_dir, "profile", "trace-*.json"))), 2)

    def test_detached(self):
        done = self.run_recorded([PYTHON, "train.py"], extra=(*self.SOON, "--detach"), cwd=self.folder, env=self.env)
        self.assertEqual(done.returncode, 0, done.stderr)
        run_dir = self.the_run()
        self.whole(run_dir)
        self.stop()
        wait_for(lambda: self.show(run_dir)["state"] == "finished", 240)
        self.assertNotIn(b"libkineto", self.log("out", run_dir))

    def test_two_recorders_at_once(self):
        runs = [os.path.join(self.folder, name) for name in ("a", "b")]
        processes = [self.begin(runs=folder) for folder in runs]
        for folder in runs:
            self.whole(self.wait_for_run(folder))
        for process in processes:
            self.end(process)

    # ---- nobody waits

    def exit_after_kill(self, who):
        """Seconds from the file `stop` to the end of the command, with recorder, keeper or front killed before."""
        process = self.begin(extra=("--interval", "0.2", "--profile", "first=1000"))
        run_dir = self.wait_for_run()
        wait_for(lambda: self.steps(run_dir) > 0, 240)
        recorder, keeper, command = self.family(process.pid)
        self.keeper = keeper
        for name, pid in (("front", process.pid), ("recorder", recorder), ("keeper", keeper)):
            if name in who:
                os.kill(pid, signal.SIGKILL)
        time.sleep(2.5)  # a few polls of the process
        began = time.monotonic()
        self.stop()
        wait_for(lambda: not is_alive(command), LIMIT_S)
        took = time.monotonic() - began
        process.kill()
        process.communicate()
        return took

    def plain_exit(self):
        with open(os.path.join(self.folder, "log"), "w") as log:
            process = subprocess.Popen([PYTHON, "train.py"], cwd=self.folder, env=self.env, stdout=log)
            self.started.append(process.pid)
            wait_for(lambda: os.path.getsize(log.name) > 0, 240)
            time.sleep(1)
            began = time.monotonic()
            self.stop()
            process.wait(LIMIT_S)
        os.remove(os.path.join(self.folder, "stop"))
        return time.monotonic() - began

    def test_the_exit_is_not_delayed_when_we_are_killed(self):
        plain = self.plain_exit()
        for who in (("recorder",), ("recorder", "keeper", "front")):
            took = self.exit_after_kill(who)
            os.remove(os.path.join(self.folder, "stop"))
            # A socket that nobody reads costs ten seconds.
            self.assertLess(took, plain + 6, who)
            wait_for(lambda: not is_alive(self.keeper))
            shutil.rmtree(self.runs, ignore_errors=True)

    def written_for(self, run_dir, seconds):
        """Whether the traces have not grown for so long."""
        paths = glob.glob(os.path.join(run_dir, "profile", "trace-*"))
        return bool(paths) and all(os.path.getsize(path) > 0 and time.time() - os.path.getmtime(path) > seconds for path in paths)

    def test_recorder_killed_in_a_window(self):
        process = self.begin()
        run_dir = self.wait_for_run()
        recorder, _, _ = self.family(process.pid)
        wait_for(lambda: glob.glob(os.path.join(run_dir, "profile", "trace-*")), 240)
        try:
            os.kill(recorder, signal.SIGKILL)
        except OSError:
            pass
        # Not before the trace is written: torch 2.13 itself can die where a program ends inside any open trace
        # (docs/run-directory.md, Windows), whoever lives or not.
        wait_for(lambda: self.written_for(run_dir, 3), LIMIT_S)
        out, _ = self.end(process)
        self.assertTrue(out.endswith("ended\n"))

    # ---- not at all

    def run_without(self, command=None, extra=SOON, env=None):
        before = self.folders()
        process = self.begin(command, extra=extra, env=env)
        run_dir = self.wait_for_run()
        wait_for(lambda: self.steps(run_dir) > 2, 240)
        _, _, command_pid = self.family(process.pid)
        with open(f"/proc/{command_pid}/environ") as text:
            given = [v for v in text.read().split("\0") if v.startswith("KINETO_")]
        self.assertEqual(self.folders() - before, set())
        out, err = self.end(process)
        self.no_traces(run_dir)
        return given, run_dir, out + err

    def test_profile_none(self):
        given, run_dir, _ = self.run_without(extra=("--interval", "0.2", "--profile", "none"))
        self.assertEqual(given, [])
        self.assertFalse([m for m in self.show(run_dir)["missing"] if "profile" in m])

    def test_the_users_own_variables_stand(self):
        given, run_dir, _ = self.run_without(env=dict(self.env, KINETO_LOG_LEVEL="3"))
        self.assertEqual(given, ["KINETO_LOG_LEVEL=3"])
        self.assertIn("no profile windows: KINETO_LOG_LEVEL is set in the command's environment",
                      self.show(run_dir)["missing"])

    def test_the_users_own_profiler(self):
        with open(self.script, "w") as text:
            text.write(TRAIN.replace("began = ", textwrap.dedent("""
                from torch.profiler import profile, ProfilerActivity
                with profile(activities=[ProfilerActivity.CPU]) as own:
                    model(torch.randn(8, 64))
                print("own", len(own.events()) > 0, flush=True)
                began = """), 1))
        given, run_dir, shown = self.run_without()
        self.assertEqual(given, [])
        self.assertIn("own True", shown)
        self.assertIn("no profile windows: train.py profiles itself", self.show(run_dir)["missing"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
