"""Every strategy computes the gradients of the one-rank run: ||Δg|| / ||g|| <= 1e-5 for each tensor, on real
ranks (Gloo), full and LoRA and QLoRA. A planted shift of one element must fail the same check."""

import json
import os
import pathlib
import socket
import subprocess
import tempfile
import unittest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen3Config

DUMP = os.environ["RIGWISE_STRATEGY_DUMP"]
BAR = 1e-5
SIZES = dict(vocab_size=97, hidden_size=128, intermediate_size=128, num_hidden_layers=5, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64)
CONFIGS = {
    "llama": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True, tie_word_embeddings=False),
    "qwen3_tied": Qwen3Config(**SIZES, head_dim=32, tie_word_embeddings=True),
    "gpt2": GPT2Config(vocab_size=97, n_embd=64, n_layer=5, n_head=4, n_positions=64),
}
STRATEGIES = {
    "accumulation": dict(micro_batch=2),
    "recompute": dict(recompute=True),
    "split": dict(strategy="split:2"),
    "ddp2": dict(strategy="ddp", ranks=2, micro_batch=2),
    "fsdp2": dict(strategy="fsdp", ranks=2, micro_batch=2),
    "tp2": dict(strategy="tp", ranks=2),
    "pp2 gpipe": dict(strategy="pp", ranks=2, micro_batch=2, pipeline="gpipe"),
    "pp2 1f1b": dict(strategy="pp", ranks=2, micro_batch=2),
    "pp2 uneven": dict(strategy="pp", ranks=2, micro_batch=2, stage_layers=[1, 4]),
    "ddp2 x tp2": dict(strategy="ddp:2,tp:2", ranks=4, micro_batch=2),
    "ddp2 x pp2": dict(strategy="ddp:2,pp:2", ranks=4, micro_batch=1),
}


def relative(ours, theirs):
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm().clamp(min=1e-20))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Strategies(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        torch.manual_seed(3)
        cls.windows = torch.randint(3, 97, (8, 20)).tolist()
        for name, config in CONFIGS.items():
            model = AutoModelForCausalLM.from_config(config)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.05)
            model.save_pretrained(cls.folder / name)
            targets = ["c_attn", "c_proj", "c_fc"] if name == "gpt2" else "all-linear"
            peft = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=targets,
                                                    fan_in_fan_out=name == "gpt2"))
            for key, parameter in peft.named_parameters():
                if "lora_B" in key:
                    torch.nn.init.normal_(parameter, std=0.1)
            peft.save_pretrained(cls.folder / f"{name}-adapter")

    def run_ranks(self, ranks=1, **request):
        out = self.folder / "out.safetensors"
        path = self.folder / "request.json"
        path.write_text(json.dumps({**request, "windows": self.windows, "out": str(out)}))
        places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(ranks)}
        processes = [subprocess.Popen([DUMP, path], stderr=subprocess.PIPE, text=True,
                                      env={**os.environ, **(places | {"RANK": str(rank)} if ranks > 1 else {})})
                     for rank in range(ranks)]
        for rank, process in enumerate(processes):
            _, errors = process.communicate(timeout=120)
            self.assertEqual(process.returncode, 0, f"rank {rank}: {errors}")
        return load_file(out)

    def worst(self, ours, theirs):
        self.assertEqual(ours.keys(), theirs.keys())
        return max((relative(ours[name], theirs[name]), name) for name in theirs)

    def check(self, model, **request):
        request["model"] = str(self.folder / model)
        if request.get("method", "full") != "full":
            request["adapter"] = str(self.folder / f"{model}-adapter")
        single = self.run_ranks(**request)
        results = {}
        for name, strategy in STRATEGIES.items():
            with self.subTest(model=model, strategy=name, method=request.get("method", "full")):
                results[name] = self.run_ranks(**{**request, **strategy})
                worst, tensor = self.worst(results[name], single)
                print(f"{model} {request.get('method', 'full')} {name}: {worst:.1e} ({tensor})")
                self.assertLessEqual(worst, BAR, tensor)
        for name, tensor in results["pp2 gpipe"].items():
            self.assertTrue(torch.equal(tensor, results["pp2 1f1b"][name]), name)
        return single

    def test_full(self):
        for model in CONFIGS:
            self.check(model)

    def test_lora(self):
        for model in CONFIGS:
            self.check(model, method="lora")

    def test_lora_with_dropout(self):
        self.check("llama", method="lora", dropout=0.3)

    def test_qlora(self):
        self.check("llama", method="qlora")

    def test_a_planted_shift_fails(self):
        request = dict(model=str(self.folder / "llama"))
        single, again = self.run_ranks(**request), self.run_ranks(**request)
        self.assertEqual(self.worst(again, single)[0], 0)
        name = "model.layers.2.mlp.up_proj.weight"
        again[name] = again[name].flatten().roll(1).reshape(again[name].shape)
        self.assertGreater(self.worst(again, single)[0], BAR)


if __name__ == "__main__":
    unittest.main(verbosity=2)
