"""The NCCL plug-in from rigwise to the file: a recorded machine that has an NVIDIA GPU stands in for this one, and a stand-in
for NCCL's core (nccl_mock) for a training's collectives."""
import glob
import os
import shutil
import subprocess
import tempfile
import unittest

BUILD = os.environ.get("RIGWISE_BUILD", ".")
DRIVER = os.path.join(BUILD, "record_driver")
MOCK = os.path.join(BUILD, "nccl_mock")
PLUGIN = os.path.join(BUILD, "librigwise-nccl.so")


class NcclInRun(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="rigwise-nccl-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.root = os.path.join(self.dir, "machine")
        os.makedirs(os.path.join(self.root, "dev"))
        for name in ("proc", "sys", "etc"):
            os.symlink("/" + name, os.path.join(self.root, name))
        open(os.path.join(self.root, "dev/nvidiactl"), "w").close()

    def run_it(self, command, **environment):
        env = dict(os.environ, RIGWISE_NCCL_WINDOW="always", **environment)
        for name in ("NCCL_PROFILER_PLUGIN", "RIGWISE_NCCL_OUT", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"):
            if name not in environment:
                env.pop(name, None)
        done = subprocess.run([DRIVER, "run", "--name", "n", "--host-root", self.root, "--", "sh", "-c", command], cwd=self.dir,
                              env=env, capture_output=True, text=True, timeout=120)
        return done, max(glob.glob(os.path.join(self.dir, "runs/*-n*")), key=os.path.getmtime)

    def run_with_plugin(self, command):
        """The command does not wait for its run directory; on a machine with much to do it may have come too late."""
        for _ in range(10):
            done, run = self.run_it(f'test -n "$NCCL_PROFILER_PLUGIN" || exit 77; {command}')
            if done.returncode != 77:
                return done, run
        self.skipTest("the run directory was never there in time")

    def test_collectives_reach_the_run_directory(self):
        done, run = self.run_with_plugin(f'exec {MOCK} "$NCCL_PROFILER_PLUGIN" 6 2 200 2 exit')
        self.assertEqual(done.returncode, 0, done.stderr)
        files = glob.glob(os.path.join(run, "profile/nccl-*.bin"))
        self.assertEqual(len(files), 1, os.listdir(run))
        with open(files[0], "rb") as file:
            self.assertEqual(file.read(8), b"RWNCCL\n\0")
        self.assertGreaterEqual(os.path.getsize(files[0]), 256 + 128 * 400)

    def test_the_plugin_is_named_by_its_place(self):
        done, _ = self.run_with_plugin('echo "$NCCL_PROFILER_PLUGIN"')
        self.assertEqual(done.stdout.strip(), os.path.realpath(PLUGIN))

    def test_the_users_own_plugin_stays(self):
        done, _ = self.run_it('echo "$NCCL_PROFILER_PLUGIN|$RIGWISE_NCCL_OUT"', NCCL_PROFILER_PLUGIN="inspector")
        self.assertEqual(done.stdout.strip(), "inspector|")

    def test_nothing_without_a_gpu(self):
        os.remove(os.path.join(self.root, "dev/nvidiactl"))
        done, run = self.run_it('echo "$NCCL_PROFILER_PLUGIN|$RIGWISE_NCCL_OUT"')
        self.assertEqual(done.stdout.strip(), "|")

    def test_a_run_without_nccl_has_no_such_file(self):
        _, run = self.run_with_plugin("true")
        self.assertEqual(glob.glob(os.path.join(run, "profile/nccl-*")), [])


if __name__ == "__main__":
    unittest.main()
