"""`rigwise doctor` on this machine with real programs: drivers that hang or lose a card (the stand-in of NVML), Pythons that are
broken in several ways, real torchrun and accelerate, a smoke test of a command that never ends by itself, and pre-flight.

Cases with torch run where RIGWISE_PYTHON, .venv of the source folder or this Python has it.
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

RIGWISE = os.environ["RIGWISE"]
BUILD = pathlib.Path(os.environ["RIGWISE_BUILD"])
SOURCE = pathlib.Path(__file__).resolve().parents[2]


def python_with_torch():
    for python in (os.environ.get("RIGWISE_PYTHON"), str(SOURCE / ".venv/bin/python"), sys.executable):
        if python and os.path.exists(python) and subprocess.run(
                [python, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)"]).returncode == 0:
            return python
    return None


PYTHON = python_with_torch()


class Doctor(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="rigwise-doctor-test-"))
        self.addCleanup(lambda: subprocess.run(["rm", "-rf", str(self.folder)]))

    def run_it(self, *words, **variables):
        env = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "MASTER_ADDR")} | variables
        return subprocess.run([RIGWISE, *words], cwd=self.folder, env=env, capture_output=True, text=True, timeout=800)

    def report(self, *words, **variables):
        done = self.run_it("doctor", "--json", *words, **variables)
        self.assertTrue(done.stdout, done.stderr)
        return done.returncode, json.loads(done.stdout)

    def failed(self, report):
        return {check["code"]: check for check in report["checks"] if check["state"] == "fail"}

    def states(self, report):
        return {rung["rung"]: rung["state"] for rung in report["rungs"]}

    def fake_nvml(self, **spec):
        file = self.folder / "nvml.json"
        device = {"name": "Fake RTX 3090", "uuid": "GPU-fake-0", "pci": "00000000:01:00.0",
                  "values": {"utilization_gpu": 0, "utilization_memory": 0, "memory_total": 25769803776, "memory_used": 3e8,
                             "temperature": 40, "power_limit": 350000, "power_limit_max": 366000}}
        file.write_text(json.dumps({"count": 1, "devices": [device | spec.pop("device", {})], **spec}))
        return {"LD_LIBRARY_PATH": str(BUILD / "fakes"), "RIGWISE_FAKE_NVML": str(file)}

    def script(self, name, text, mode=0o755):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        path.chmod(mode)
        return str(path)

    # ---- devices

    def test_level_1_says_what_it_saw(self):
        code, report = self.report()
        self.assertIn(code, (0, 4))
        self.assertEqual(self.states(report)["framework"], "skipped")
        self.assertIn("kernel", report["facts"]["host"])

    def test_a_driver_that_hangs_is_named_and_hangs_nobody(self):
        code, report = self.report(**self.fake_nvml(hang={"function": "", "at_s": 0}))
        self.assertEqual(code, 4)
        self.assertEqual(report["first_failed"], "devices")
        self.assertIn("driver-hung", self.failed(report))
        self.assertEqual(self.states(report)["ready"], "skipped")

    def test_a_driver_that_crashes_is_no_hang(self):
        code, report = self.report(**self.fake_nvml(crash="nvmlDeviceGetTemperature"))
        self.assertEqual(code, 0)  # a warning
        self.assertIn("signal 6", self.failed(report)["driver-fails"]["claim"])
        self.assertNotIn("driver-hung", self.failed(report))

    def test_a_lost_card_and_a_healthy_one(self):
        code, report = self.report("--only", "devices", **self.fake_nvml(device={"lost_at_s": 0}))
        self.assertEqual(code, 4)
        self.assertIn("gpu-lost", self.failed(report))
        if not os.path.exists("/sys/module/nvidia"):  # else real cards are held against the stand-in's one
            code, report = self.report("--only", "devices", **self.fake_nvml())
            self.assertEqual(code, 0, self.failed(report))

    # ---- framework

    def test_pythons_that_are_broken(self):
        crash = self.script("crash/python3", "#!/bin/sh\nkill -ILL $$\n")
        code, report = self.report("--only", "framework", "--python", crash)
        self.assertIn("framework-crashed", self.failed(report))
        code, report = self.report("--only", "framework", "--python", str(self.folder / "nowhere"))
        self.assertIn("python-missing", self.failed(report))
        self.script("modules/torch/__init__.py", "raise ImportError('libcudart.so.13: cannot open shared object file')\n")
        code, report = self.report("--only", "framework", "--python", sys.executable, PYTHONPATH=str(self.folder / "modules"))
        self.assertIn("torch-import-fails", self.failed(report))
        self.script("none/sitecustomize.py", """
            import sys
            class No:
                def find_spec(self, name, path=None, target=None):
                    if name == "torch":
                        raise ModuleNotFoundError("No module named 'torch'", name="torch")
            sys.meta_path.insert(0, No())
            """)
        code, report = self.report("--only", "framework", "--python", sys.executable, PYTHONPATH=str(self.folder / "none"))
        self.assertIn("torch-missing", self.failed(report))
        self.assertEqual(code, 4)

    @unittest.skipUnless(PYTHON, "no torch")
    def test_a_library_that_cannot_be_imported(self):
        self.script("broken/bitsandbytes/__init__.py", "raise RuntimeError('CUDA setup failed')\n")
        self.script("broken/bitsandbytes-9.9.dist-info/METADATA", "Metadata-Version: 2.1\nName: bitsandbytes\nVersion: 9.9\n")
        code, report = self.report("--only", "framework", "--python", PYTHON, PYTHONPATH=str(self.folder / "broken"))
        self.assertEqual(code, 0)  # a warning
        found = self.failed(report)["extension-fails"]
        self.assertIn("CUDA setup failed", found["claim"])
        self.assertIn("import bitsandbytes", found["by_hand"])

    TORCH = """
        __version__ = "2.13.0+cu130"
        import ctypes, os, types
        class version: cuda, hip = "13.0", None
        class NoGpu(RuntimeError): pass
        def init():
            how = os.environ.get("FAKE_INIT", "")
            if how == "crash": os.kill(os.getpid(), 11)
            if "FAKE_NCCL" in os.environ: ctypes.CDLL(os.environ["FAKE_NCCL"])
        cuda = types.SimpleNamespace(
            init=init, is_available=lambda: True, device_count=lambda: 1, get_arch_list=lambda: ["sm_86"],
            get_device_properties=lambda index: (_ for _ in ()).throw(RuntimeError("CUDA error: unknown error")),
            can_device_access_peer=lambda a, b: True, nccl=types.SimpleNamespace(version=lambda: (2, 30, 4)))
        """

    def fake_torch(self):
        self.script("fake/torch/__init__.py", self.TORCH)
        self.script("fake/torch/distributed.py", "import os\nis_available = lambda: True\nis_nccl_available = lambda: 'FAKE_NCCL' in os.environ\n")
        self.script("fake/bitsandbytes/__init__.py", "from . import cextension\n")
        self.script("fake/bitsandbytes/cextension.py", """
            class ErrorHandlerMockBNBNativeLibrary:
                error_msg = "libcudart.so.13: cannot open shared object file"
            lib = ErrorHandlerMockBNBNativeLibrary()
            """)
        self.script("fake/bitsandbytes-9.9.dist-info/METADATA", "Metadata-Version: 2.1\nName: bitsandbytes\nVersion: 9.9\n")
        return {"PYTHONPATH": str(self.folder / "fake")}

    def test_a_driver_that_takes_torch_down(self):
        code, report = self.report("--only", "framework", "--python", sys.executable, FAKE_INIT="crash", **self.fake_torch())
        found = self.failed(report)["framework-crashed"]
        self.assertIn("torch.cuda.init()", found["claim"])
        self.assertEqual(code, 4)

    def test_calls_that_raise_and_a_library_that_only_seems_to_load(self):
        code, report = self.report("--only", "framework", "--python", sys.executable, **self.fake_torch())
        self.assertIn("unknown error", self.failed(report)["torch-call-fails"]["claim"])
        self.assertIn("libcudart.so.13", self.failed(report)["extension-fails"]["claim"])

    @unittest.skipUnless(shutil.which("cc"), "no compiler")
    def test_the_nccl_that_is_mapped_counts(self):
        library = str(self.folder / "libnccl.so.2")
        source = self.script("nccl.c", "int ncclGetVersion(int *version) { *version = 22809; return 0; }\n")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        self.script("fake/nvidia_nccl_cu13-2.30.4.dist-info/METADATA", "Metadata-Version: 2.1\nName: nvidia-nccl-cu13\nVersion: 2.30.4\n")
        code, report = self.report("--only", "framework", "--python", sys.executable, FAKE_NCCL=library, **self.fake_torch())
        self.assertIn("loaded NCCL 2.28.9", self.failed(report)["nccl-versions-differ"]["claim"])
        self.assertIn(library, str(self.failed(report)["nccl-versions-differ"]["evidence"]))

    def test_a_run_that_is_meant_for_the_cpu(self):
        for words, variables in (["--cpu"], {}), ([], {"CUDA_VISIBLE_DEVICES": ""}), ([], {"CUDA_VISIBLE_DEVICES": "-1"}):
            code, report = self.report("--only", "devices,framework", "--python", sys.executable, *words,
                                       **self.fake_torch() | self.fake_nvml(device={"lost_at_s": 0}) | variables)
            self.assertEqual(code, 0, self.failed(report))
            self.assertNotIn("torch-call-fails", self.failed(report))

    def test_the_environment_names_the_python(self):
        python = self.script("venv/bin/python", f"#!/bin/sh\nexec {sys.executable} \"$@\"\n")
        code, report = self.report("--only", "framework", VIRTUAL_ENV=str(self.folder / "venv"), RIGWISE_PYTHON="")
        self.assertEqual((report["python"], report["facts"]["framework"]["python_how"]), (python, "VIRTUAL_ENV"))
        code, report = self.report("--only", "framework", VIRTUAL_ENV=str(self.folder / "gone"), RIGWISE_PYTHON="")
        said = str(self.failed(report)["python-missing"]["evidence"])
        self.assertIn("gone/bin/python", said)
        self.assertIn("named by VIRTUAL_ENV", said)

    # ---- launcher and collective

    @unittest.skipUnless(PYTHON, "no torch")
    def test_real_launchers_and_collectives(self):
        code, report = self.report("--level", "2", "--only", "launcher,collective", "--python", PYTHON)
        self.assertEqual(code, 0, self.failed(report))
        tries = {one["name"]: one for one in report["facts"]["launcher"]["tries"]}
        self.assertTrue(tries["torchrun"]["together"])
        self.assertTrue(tries["accelerate"]["together"] or tries["accelerate"]["skipped"])
        gloo = report["facts"]["collective"]["tries"][0]
        self.assertTrue(gloo["complete"])
        self.assertEqual({(pair["from"], pair["to"]) for pair in gloo["pairs"]}, {(0, 1), (1, 0)})
        self.assertEqual(gloo["wrong"], [])

    @unittest.skipUnless(PYTHON, "no torch")
    def test_an_interface_that_is_not_there(self):
        code, report = self.report("--level", "2", "--only", "launcher", "--python", PYTHON, GLOO_SOCKET_IFNAME="^lo")
        self.assertEqual(code, 4)
        self.assertIn("gloo-interface-bad", self.failed(report))
        self.assertIn("torchrun-fails", self.failed(report))

    @unittest.skipUnless(PYTHON, "no torch")
    def test_ctrl_c_leaves_no_process_behind(self):
        mark = f"rigwise-mark-{os.getpid()}"
        doctor = subprocess.Popen([RIGWISE, "doctor", "--only", "collective", "--level", "3", "--python", PYTHON], cwd=self.folder,
                                  env=os.environ | {"RIGWISE_TEST_MARK": mark}, start_new_session=True,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while len(self.marked(mark)) < 3 and time.monotonic() < deadline and doctor.poll() is None:
            time.sleep(0.2)
        os.killpg(doctor.pid, signal.SIGINT)
        doctor.wait(60)
        deadline = time.monotonic() + 60
        while self.marked(mark) and time.monotonic() < deadline:
            time.sleep(0.2)
        self.assertEqual(self.marked(mark), [])

    @unittest.skipUnless(PYTHON, "no torch")
    def test_no_signal_leaves_a_folder_behind(self):
        place = self.folder / "tmp"
        place.mkdir()
        for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            doctor = subprocess.Popen([RIGWISE, "doctor", "--only", "framework", "--python", PYTHON], cwd=self.folder,
                                      env=os.environ | {"TMPDIR": str(place)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 60
            while not list(place.iterdir()) and time.monotonic() < deadline and doctor.poll() is None:
                time.sleep(0.01)
            doctor.send_signal(how)
            doctor.wait(60)
            while list(place.iterdir()) and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertEqual(list(place.iterdir()), [], how)

    def marked(self, mark):
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                pass
        return found

    # ---- smoke and pre-flight

    TRAINER = """
        import sys, time
        for step in range(1, 100000):
            print({"loss": float(sys.argv[1]), "grad_norm": 1.0, "learning_rate": 1e-4, "epoch": step / 100}, flush=True)
            if step == 3 and len(sys.argv) > 2:
                raise RuntimeError(sys.argv[2])
            time.sleep(0.05)
        """

    def test_a_smoke_test_is_ended_after_its_steps_and_kept(self):
        self.script("train.py", self.TRAINER)
        command = f"{sys.executable} train.py 2.5"
        code, report = self.report("--only", "smoke,ready", "--smoke", command, "--steps", "5")
        self.assertEqual(code, 0, self.failed(report))
        self.assertEqual((self.states(report)["smoke"], self.states(report)["ready"]), ("pass", "pass"))
        self.assertFalse(report["ready"])  # most rungs were not asked
        kept = json.loads((self.folder / "runs/doctor/smoke.json").read_text())
        self.assertEqual([(one["program"], one["passed"]) for one in kept], [("train", True)])
        self.assertGreaterEqual(kept[0]["steps_seen"], 5)
        run = self.run_it("run", "--long", "--name", "real", "--", sys.executable, "-c", "pass")
        self.assertIn("no smoke test", run.stderr)
        self.script("train.py", "print('trained')")
        run = self.run_it("run", "--long", "--name", "real", "--", sys.executable, "train.py")
        self.assertNotIn("no smoke test", run.stderr)
        self.assertEqual(run.returncode, 0)

    def test_a_smoke_test_that_fails_is_triaged_and_kept(self):
        self.script("train.py", self.TRAINER)
        code, report = self.report("--only", "smoke", "--smoke", f"{sys.executable} train.py 2.5 'out of luck'", "--steps", "50")
        self.assertEqual(code, 4)
        self.assertIn("out of luck", str(self.failed(report)["smoke-fails"]["evidence"]))
        code, report = self.report("--only", "ready", "--smoke", f"{sys.executable} train.py 2.5")
        self.assertIn("smoke-stale", self.failed(report))
        code, report = self.report("--only", "smoke", "--smoke", f"{sys.executable} train.py nan", "--steps", "5")
        self.assertIn("smoke-loss-bad", self.failed(report))
        code, report = self.report("--only", "smoke", "--smoke", "sleep 300", "--steps", "5", "--smoke-limit", "2s")
        self.assertIn("smoke-late", self.failed(report))
        code, report = self.report("--only", "smoke", "--smoke", "true", "--steps", "5")
        self.assertIn("smoke-no-steps", self.failed(report))

    def test_storage_is_held_against_what_this_command_wrote(self):
        self.script("train.py", """
            import os, pathlib, time
            for number in range(1, 5):
                folder = pathlib.Path(f"out/checkpoint-{number}")
                folder.mkdir(parents=True)
                (folder / "model.safetensors").write_bytes(b"x" * 100000)
                time.sleep(1)
            """)
        command = [sys.executable, "train.py", "--output_dir", "out"]
        run = self.run_it("run", "--name", "first", "--quiet", "--", *command)
        self.assertEqual(run.returncode, 0, run.stderr)
        code, report = self.report("--only", "storage", "--smoke", " ".join(command))
        earlier = report["facts"]["storage"]["earlier"]
        self.assertEqual((earlier["run"], earlier["checkpoints"], earlier["kept"]), ("first", 4, 4))
        self.assertEqual([one["path"] for one in report["facts"]["storage"]["dirs"]], [str(self.folder / "out")])
        code, report = self.report("--only", "storage", "--smoke", f"{sys.executable} other.py")
        self.assertNotIn("earlier", report["facts"]["storage"])
        code, report = self.report("--only", "storage", "--dir", "not-there")
        self.assertIn("storage-missing", self.failed(report))

    def test_no_secret_and_no_open_quote_in_what_is_told(self):
        token = "hf_abcdefghijKLMNOPQRST0123456789"
        self.script("train.py", "pass\n")
        run = self.run_it("run", "--long", "--name", "x", "--", sys.executable, "train.py", "--hub_token", token, "a b")
        self.assertIn("no smoke test", run.stderr)
        self.assertNotIn(token, run.stderr)
        python = self.script("a b/python3", f"#!/bin/sh\necho '401 for {token}' >&2\nexit 3\n")
        code, report = self.report("--only", "framework", "--python", python)
        self.assertNotIn(token, json.dumps(report))
        self.assertTrue(self.failed(report)["framework-crashed"]["by_hand"].startswith(f"'{python}' "))

    def test_preflight_refuses_with_the_finding(self):
        run = self.run_it("run", "--preflight", "--name", "x", "--", "touch", "started", **self.fake_nvml(device={"lost_at_s": 0}))
        self.assertEqual(run.returncode, 4, run.stderr)
        self.assertIn("gpu-lost", run.stderr)
        self.assertFalse((self.folder / "started").exists())
        run = self.run_it("run", "--preflight", "--name", "x", "--", "touch", "started")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("pre-flight: NO FAULT", run.stderr)
        self.assertTrue((self.folder / "started").exists())


if __name__ == "__main__":
    unittest.main()
