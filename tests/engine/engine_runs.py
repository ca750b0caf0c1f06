"""What the tests of rigwise-engine's verbs share: small made models, a text, and runs of the real program."""
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

ENGINE = os.environ["RIGWISE_ENGINE"]
SOURCE = pathlib.Path(os.environ["RIGWISE_SOURCE"])
PHASES = ("data_s", "forward_s", "backward_s", "sync_s", "optimizer_s")


def engine(*words, env=None, timeout=240, **keywords):
    """One run of the program on one thread a rank, which is what two cores can give two ranks."""
    return subprocess.run([ENGINE, *map(str, words)], env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
                          capture_output=True, text=True, timeout=timeout, **keywords)


def merged(*flags):
    """Flags of which a later one replaces an earlier one of the same name; all but these take a value."""
    found, words = {}, iter(map(str, flags))
    for word in words:
        found[word] = () if word in ("--checkpoint-activations", "--rslora", "--tie") else (next(words),)
    return [word for name, value in found.items() for word in (name, *value)]


def children_of(pid):
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it ended while we looked
    return found


def log_lines(file):
    return [json.loads(line) for line in pathlib.Path(file).read_text().splitlines()]


def steps_of(out):
    return [line for line in log_lines(pathlib.Path(out) / "log.jsonl") if "loss" in line]


def losses(steps):
    return [step["loss"] for step in steps]


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).iterdir())}


def write_text(file):
    """Some 20 kB of English that this repository has anyway, in six documents."""
    parts = []
    for name in ("README.md", "CONTRIBUTING.md", "LICENSE"):
        text = (SOURCE / name).read_text()
        middle = text.index("\n", len(text) // 2)
        parts += [text[:middle], text[middle:]]
    pathlib.Path(file).write_text("\n<|doc|>\n".join(part.strip()[:4000] for part in parts) + "\n")


class EngineCase(unittest.TestCase):
    """A folder with text.txt and the models that a test asks for."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="rigwise-engine-")))
        cls.text = cls.folder / "text.txt"
        write_text(cls.text)

    @classmethod
    def model(cls, arch="llama", *flags):
        folder = cls.folder / "-".join([arch, *flags]).replace("--", "")
        if not folder.exists():
            kv_heads = () if arch == "gpt2" else ("--kv-heads", "2")
            made = engine("make-model", *merged("--out", folder, "--arch", arch, "--hidden", "64", "--layers", "4", "--heads", "4",
                                                *kv_heads, "--vocab", "384", "--max-seq", "128", "--tokenizer-from", cls.text,
                                                *flags))
            assert made.returncode == 0, made.stderr
        return folder

    def train(self, out, *flags, model=None, data=None, command=(), env=None):
        """A finished run: its steps. `command` goes before the program."""
        flags = merged("--model", model or self.model(), "--data", data or self.text, "--out", out, *flags)
        words = [*map(str, command), ENGINE, "train", *flags]
        ran = subprocess.run(words, env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
                             capture_output=True, text=True, timeout=240)
        self.assertEqual(ran.returncode, 0, f"{flags}\n{ran.stderr}")
        self.last = ran
        return steps_of(out)

    def new(self, name):
        """A path that is not there yet."""
        path = self.folder / name
        self.assertFalse(path.exists(), path)
        return path

    def assert_close(self, ours, theirs, bar, what=""):
        self.assertEqual(len(ours), len(theirs), what)
        worst = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs))
        self.assertLessEqual(worst, bar, what)
        return worst
