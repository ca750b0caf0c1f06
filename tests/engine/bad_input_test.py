"""Bad files, flags and disks: a clear error before the first step, told once, exit 1 or 2, and nothing that was there is
harmed."""
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import unittest

from engine_runs import EngineCase, engine, files_of, losses, merged, steps_of

WORK = ["--steps", "2", "--seq", "32", "--micro-batch", "2", "--threads", "1"]


class BadInput(EngineCase):
    def refuse(self, expected, *flags, status=1, verb="train", out=None, env=None):
        """`expected` is a pattern that the first line of the message matches; it is told once."""
        out = out or self.folder / "refused"
        words = merged("--model", self.model(), *(["--data", self.text] if verb != "generate" else []),
                       *(["--out", out, *WORK] if verb == "train" else []), *flags)
        ran = engine(verb, *words, env=env)
        told = f"{flags}: exit {ran.returncode}: {ran.stderr}"
        self.assertEqual(ran.returncode, status, told)
        self.assertEqual(len(re.findall(expected, ran.stderr)), 1, told)
        for noise in ("frame #", "Exception raised", "a bug of ours", "terminate", "c10"):
            self.assertNotIn(noise, ran.stderr)
        self.assertEqual(ran.stdout, "", told)
        if out == self.folder / "refused" and out.is_dir():
            self.assertEqual([p.name for p in out.iterdir() if p.name.startswith("checkpoint")], [])
            shutil.rmtree(out)
        return ran.stderr

    def copy(self, name, arch="llama"):
        folder = self.new(name)
        shutil.copytree(self.model(arch), folder)
        return folder

    def write(self, name, data):
        file = self.folder / name
        file.write_bytes(data.encode() if isinstance(data, str) else data)
        return file

    def test_weights(self):
        whole = (self.model() / "model.safetensors").read_bytes()
        header = struct.unpack("<Q", whole[:8])[0]
        table = json.loads(whole[8:8 + header])
        twisted = {**table, "model.norm.weight": {**table["model.norm.weight"], "data_offsets": [1 << 60, (1 << 60) + 256]}}
        hostile = {
            "empty": b"", "8 bytes": whole[:8], "cut header": whole[:100], "cut data": whole[:-1], "cut half": whole[:len(whole) // 2],
            "huge header": struct.pack("<Q", 1 << 60) + whole[8:], "no JSON": whole[:8] + b"x" * header + whole[8 + header:],
            "offsets": struct.pack("<Q", len(json.dumps(twisted))) + json.dumps(twisted).encode() + whole[8 + header:],
        }
        for name, data in hostile.items():
            with self.subTest(name):
                folder = self.copy(f"weights-{name}")
                (folder / "model.safetensors").write_bytes(data)
                self.refuse(rf"{folder}/model\.safetensors", "--model", folder)
                self.refuse(rf"{folder}/model\.safetensors", "--model", folder, verb="eval")
                self.refuse(rf"{folder}/model\.safetensors", "--model", folder, "--prompt", "a", verb="generate")
        folder = self.copy("weights-missing")
        (folder / "model.safetensors").unlink()
        self.refuse(rf"{folder}", "--model", folder)

    def test_shards(self):
        from transformers import AutoModelForCausalLM
        folder = self.new("sharded")
        shutil.copytree(self.model(), folder)
        (folder / "model.safetensors").unlink()
        AutoModelForCausalLM.from_pretrained(self.model()).save_pretrained(folder, max_shard_size="200KB")
        shards = sorted(folder.glob("model-*.safetensors"))
        self.assertGreater(len(shards), 2)
        flags = [*WORK, "--method", "full"]
        self.assertEqual(losses(self.train(self.new("of-shards"), *flags, model=folder)),
                         losses(self.train(self.new("of-one"), *flags)))
        shards[1].unlink()
        self.refuse(re.escape(shards[1].name), "--model", folder)

    def test_config(self):
        for name, change, expected in [
                ("shape", {"intermediate_size": 96}, r"\[192, 64\].*\[96, 64\]|\[96, 64\].*\[192, 64\]|\[64, 192\].*\[64, 96\]"),
                ("arch", {"model_type": "mamba", "architectures": ["MambaForCausalLM"]}, r"(?i)mamba"),
                ("negative", {"hidden_size": -64}, r"hidden_size"),
                ("huge", {"num_hidden_layers": 1 << 40}, r"num_hidden_layers"),
                ("heads", {"num_attention_heads": 7}, r"heads"),
                ("text", {"vocab_size": "many"}, r"vocab_size")]:
            with self.subTest(name):
                folder = self.copy(f"config-{name}")
                config = json.loads((folder / "config.json").read_text()) | change
                (folder / "config.json").write_text(json.dumps(config))
                ran = engine("train", *merged("--model", folder, "--data", self.text, "--out", self.folder / "refused", *WORK,
                                              "--method", "full", "--lora-rank", "8"))
                self.assertIn(ran.returncode, (1, 2), ran.stderr)
                self.assertRegex(ran.stderr, expected)
                self.assertNotIn("frame #", ran.stderr)
                if name == "arch":
                    for known in ("llama", "mistral", "qwen2", "qwen3", "gpt2"):
                        self.assertIn(known, ran.stderr)
        folder = self.copy("config-none")
        (folder / "config.json").unlink()
        self.refuse(rf"{folder}/config\.json", "--model", folder)
        self.refuse("no-such-model", "--model", self.folder / "no-such-model")

    def test_tokenizer(self):
        folder = self.copy("unigram")
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        tokenizer["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]]}
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        self.refuse("Unigram", "--model", folder)
        folder = self.copy("no-tokenizer")
        (folder / "tokenizer.json").unlink()
        self.refuse(r"tokenizer\.json: cannot open", "--model", folder)

    def test_ids_above_the_vocabulary(self):
        """Of a tokenizer that was made for a larger model."""
        folder = self.new("narrow")
        made = engine("make-model", "--out", folder, "--hidden", "32", "--heads", "2", "--layers", "1", "--vocab", "300",
                      "--tokenizer-from", self.text)
        self.assertEqual(made.returncode, 0, made.stderr)
        for file in self.model().glob("token*"):
            shutil.copy(file, folder)
        pattern = r"its tokenizer gives id 3\d\d .*the model knows 300 tokens"
        self.refuse(pattern, "--model", folder)
        self.refuse(pattern, "--model", folder, "--ranks", "2")
        self.refuse(pattern, "--model", folder, verb="eval")
        self.refuse(r"gives id 3\d\d .*the model knows 300 tokens", "--model", folder, "--prompt", self.text.read_text()[:300],
                    verb="generate")

    def test_data(self):
        for name, content, expected in [
                ("empty.txt", "", r"empty\.txt: the file is empty"),
                ("blank.txt", " \n\n", r"blank\.txt: no document"),
                ("latin.txt", b"one\ntwo\nna\xefve\n", r"latin\.txt:3: byte 10 is not UTF-8"),
                ("latin.jsonl", b'{"text": "one"}\n{"text": "na\xefve"}\n', r"latin\.jsonl:2: byte"),
                ("broken.jsonl", '{"text": "one"}\n{"text": "two"\n', r"broken\.jsonl:2:"),
                ("other.jsonl", '{"words": "one"}\n', r"other\.jsonl:1: has none of text"),
                ("data.csv", "a,b\n", r"data\.csv: what ends in '\.csv' is not read"),
                ("short.txt", "a", None)]:
            with self.subTest(name):
                file = self.write(name, content)
                if expected:
                    self.refuse(expected, "--data", file, status=2 if name.endswith("csv") else 1)
                    self.refuse(expected, "--data", file, verb="eval", status=2 if name.endswith("csv") else 1)
                else:
                    self.assertEqual(len(self.train(self.new("short"), *WORK, data=file)), 2)
        self.refuse("no-such.txt: No such file", "--data", self.folder / "no-such.txt")
        self.refuse("not a plain file", "--data", self.folder, status=2)

    def test_flags(self):
        self.refuse(r"windows of 256 tokens, but the model knows 128 positions", "--seq", "256", status=2)
        self.refuse(r"windows of 256 tokens, but the model knows 128 positions", "--seq", "256", verb="eval", status=2)
        self.refuse(r"tp:3 does not divide", "--strategy", "tp", "--ranks", "3", status=2)
        self.refuse(r"5 stages are more than the model's 4 layers", "--strategy", "split:5", status=2)
        self.refuse(r"6 stages are more than", "--strategy", "pp", "--ranks", "6", status=2)
        self.refuse(r"needs 4 ranks, but 2 are here", "--strategy", "ddp:2,tp:2", "--ranks", "2", status=2)
        self.refuse(r"--strategy dp: not a strategy", "--strategy", "dp", status=2)
        self.refuse(r"--steps", "--steps", "0", status=2)
        self.refuse(r"--micro-batch", "--micro-batch", "0", status=2)
        self.refuse(r"--shares 1,0", "--shares", "1,0", "--ranks", "2", status=2)
        self.refuse(r"global batch of 1 leaves rank", "--global-batch", "1", "--ranks", "2", status=2)
        self.refuse(r"stages of 1,1 layers", "--strategy", "split:2", "--stage-layers", "1,1", status=2)
        self.refuse(r"no_proj", "--lora-targets", "no_proj")
        self.refuse(r"--adapter with --method full", "--adapter", self.folder, "--method", "full", status=2)
        self.refuse(r"adapter_config\.json: cannot open", "--adapter", self.folder)
        self.refuse(r"'gpu'", "--device", "gpu", status=2)

    def test_a_batch_larger_than_the_data(self):
        """goes over the data more than once, and says so by its epoch."""
        file = self.write("few.txt", self.text.read_text()[:400])
        steps = self.train(self.new("few"), *WORK, "--micro-batch", "64", data=file)
        self.assertGreater(steps[0]["epoch"], 1)

    def test_a_busy_port(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            self.refuse("port .* is in use", "--ranks", "2", "--port", taken.getsockname()[1])

    def test_out(self):
        self.refuse(r"text\.txt", out=self.text)
        self.refuse(r"text\.txt/x", out=self.text / "x")
        self.refuse(r"/proc/", out="/proc/rigwise")
        self.refuse(r"/proc/", "--ranks", "2", out="/proc/rigwise")

    def test_a_run_is_not_overwritten(self):
        out = self.new("kept")
        self.train(out, *WORK, "--save-every", "1")
        before = {name: (out / name).read_bytes() if (out / name).is_file() else files_of(out / name) for name in os.listdir(out)}
        for flags in ([], ["--ranks", "2"]):
            told = self.refuse(r"a run is there already", *flags, out=out, status=2)
            self.assertIn("--resume auto", told)
        after = {name: (out / name).read_bytes() if (out / name).is_file() else files_of(out / name) for name in os.listdir(out)}
        self.assertEqual(after, before)

    def test_a_loss_that_is_no_number(self):
        from safetensors.torch import load_file, save_file
        folder = self.copy("nan")
        weights = load_file(folder / "model.safetensors")
        weights["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        for flags in ([], ["--strategy", "fsdp", "--ranks", "2"]):
            out = self.new(f"nan-{len(flags)}")
            ran = engine("train", *merged("--model", folder, "--data", self.text, "--out", out, *WORK, *flags))
            self.assertEqual(ran.returncode, 1, ran.stderr)
            self.assertEqual(ran.stderr.count("step 1: loss nan"), 1, ran.stderr)
            self.assertEqual([s["loss"] for s in steps_of(out)], ["nan"])
            self.assertEqual(list(out.glob("checkpoint*")), [])

    def test_a_full_disk(self):
        disk = tempfile.mkdtemp(prefix="rigwise-disk-")
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True).returncode != 0:
            os.rmdir(disk)
            self.skipTest("no small disk can be mounted here")
        try:
            out = self.folder.__class__(disk) / "run"
            for ranks in ([], ["--ranks", "2"]):
                # A full checkpoint of this model takes 3 MB: the first fits, the second does not.
                ran = engine("train", *merged("--model", self.model(), "--data", self.text, "--out", out, *WORK, "--steps", "6",
                                              "--method", "full", "--save-every", "3", *ranks))
                self.assertEqual(ran.returncode, 1, ran.stderr)
                self.assertEqual(ran.stderr.count("No space left on device"), 1, ran.stderr)
                self.assertEqual([p.name for p in out.glob("checkpoint-*")], ["checkpoint-3"], "no half one is left")
                elsewhere = self.new(f"elsewhere-{len(ranks)}")
                steps = self.train(elsewhere, *WORK, "--steps", "6", "--method", "full", "--save-every", "3", "--resume", out / "checkpoint-3",
                                   *ranks)
                self.assertEqual([s["step"] for s in steps], [4, 5, 6])
                shutil.rmtree(out)
        finally:
            subprocess.run(["umount", disk], check=True)
            os.rmdir(disk)


if __name__ == "__main__":
    unittest.main(verbosity=2)
