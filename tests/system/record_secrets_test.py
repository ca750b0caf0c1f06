"""Planted secrets are nowhere below the run directory, but in the log where the command itself printed one."""
import json
import os
import sys
import unittest

from record_harness import DRIVER, PYTHON, RecordTest

# Made up; none was ever issued.
ENVIRONMENT = {"HF_TOKEN": "hf_PlantedPlantedPlanted1234", "DB_PASSWORD": "hunt3r", "SMTP_PASS": "swordfish",
               "MY_API_KEY": "planted-key-value", "PGPASSWORD": "pl4nted"}
ARGUMENTS = ["--token", "abcplanted", "--api-key=zyxplanted", "https://ana:pa55planted@h.example/x", "https://tok3n@h.example/x",
             "Authorization: Bearer bearerplanted", "ghp_Planted0123456789abcdef", "swordfish", "--note", "is planted-key-value in it"]
PLANTED = [*ENVIRONMENT.values(), "abcplanted", "zyxplanted", "pa55planted", "tok3n", "bearerplanted", "ghp_Planted0123456789abcdef"]


class Planted(RecordTest):
    def found(self, run_dir, but=()):
        hits = []
        for folder, _, files in os.walk(run_dir):
            for name in files:
                path = os.path.join(folder, name)
                if os.path.relpath(path, run_dir) in but:
                    continue
                with open(path, "rb") as data:
                    text = data.read()
                hits += [(os.path.relpath(path, run_dir), secret) for secret in PLANTED if secret.encode() in text]
        return hits + [(run_dir, secret) for secret in PLANTED if secret in os.path.basename(run_dir)]

    def test_nowhere_but_where_the_command_printed_it(self):
        # A checkpoint whose folder bears a secret, and one printed secret.
        program = ("import os\nout = 'out-' + os.environ['MY_API_KEY'] + '/checkpoint-5'\nos.makedirs(out)\n"
                   "open(out + '/model.safetensors', 'wb').write(b'x' * 100)\nprint('Saving model checkpoint to', out)\n"
                   "print('token', os.environ['HF_TOKEN'])\nimport time; time.sleep(0.7)")
        recorded = self.run_recorded([PYTHON, "-c", program, *ARGUMENTS], name="hunt3r", cwd=self.folder,
                                     env={**os.environ, **ENVIRONMENT})
        self.assertEqual(recorded.returncode, 0, recorded.stderr)
        run_dir = self.the_run()
        self.assertEqual(self.found(run_dir, but=("log/out.log",)), [])
        with open(os.path.join(run_dir, "run.json")) as text:
            run = json.load(text)
        self.assertIn("the command printed the value of HF_TOKEN", run["warnings"])
        self.assertIn("is *** in it", run["command"])
        self.assertIn("Authorization: Bearer ***", run["command"])


if __name__ == "__main__":
    if not os.path.exists(DRIVER):
        print("skipped: no record_driver in", DRIVER)
        sys.exit(0)
    unittest.main(verbosity=2)
