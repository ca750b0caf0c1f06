"""The engine beside transformers and PEFT: the same losses from the same start, the same logits from each other's files,
the same text. Everything is of real runs on small models of random weights."""
import json
import os
import subprocess
import unittest

from engine_runs import EngineCase, engine, losses

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, get_scheduler
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)
SEQ, BATCH, STEPS = 32, 4, 20
WORK = ["--steps", STEPS, "--seq", SEQ, "--global-batch", BATCH, "--micro-batch", BATCH, "--lr", "2e-3", "--warmup", "2", "--schedule",
        "linear", "--clip", "1", "--threads", "1"]
TARGETS = {"gpt2": ["c_attn", "c_fc"]}
LOSS_BAR, LOGIT_BAR = 1e-4, 1e-5  # relative; the engine's


def relative(ours, theirs):
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


class BesideHuggingFace(EngineCase):
    def hf_model(self, folder, **keywords):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **keywords)

    def windows(self, model):
        """Documents joined with the end token and cut, as transformers' run_clm.py does; the rest is a window too."""
        tokenizer = AutoTokenizer.from_pretrained(model)
        ids = []
        for document in self.text.read_text().removesuffix("\n").split("\n<|doc|>\n"):
            ids += tokenizer(document + ("\n" if document.endswith("\n") else ""))["input_ids"] + [tokenizer.eos_token_id]
        return [ids[at:at + SEQ] for at in range(0, len(ids), SEQ)]

    def hf_train(self, model, windows):
        """The loop that Trainer runs, without what it adds around."""
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=2e-3, weight_decay=0)
        schedule = get_scheduler("linear", optimizer, num_warmup_steps=2, num_training_steps=STEPS)
        out = []
        model.train()
        for step in range(STEPS):
            ids = torch.tensor(windows[step * BATCH:(step + 1) * BATCH])
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            out.append(loss.item())
        return out

    @torch.no_grad()
    def hf_loss(self, model, windows):
        """Mean nll of the predicted tokens of all windows."""
        total = count = 0
        whole = [window for window in windows if len(window) == SEQ]
        for batch in [whole[at:at + 32] for at in range(0, len(whole), 32)] + [[w] for w in windows if 1 < len(w) < SEQ]:
            ids = torch.tensor(batch)
            logits = model.eval()(input_ids=ids).logits[:, :-1].double()
            total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum").item()
            count += ids[:, 1:].numel()
        return total / count, count

    def our_loss(self, model, *flags):
        ran = engine("eval", "--model", model, "--data", self.text, "--seq", SEQ, "--json", *flags)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        return json.loads(ran.stdout)

    def adapter(self, model, arch, name):
        """A PEFT adapter whose B is not zero."""
        config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=12, fan_in_fan_out=arch == "gpt2",
                            target_modules=TARGETS.get(arch, ["q_proj", "v_proj", "o_proj", "up_proj"]))
        torch.manual_seed(1)
        peft = get_peft_model(model, config)
        for key, parameter in peft.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(parameter, std=0.02)
        folder = self.new(name)
        peft.save_pretrained(folder)
        return peft, folder

    def test_lora_losses_and_adapters_both_ways(self):
        folders = {arch: self.model(arch) for arch in ("llama", "qwen3", "gpt2")}
        if "RIGWISE_REAL_MODEL" in os.environ:  # a trained one: tools/smollm2 makes its folder
            folders["real"] = os.environ["RIGWISE_REAL_MODEL"]
        for arch, folder in folders.items():
            with self.subTest(arch):
                windows = self.windows(folder)
                peft, start = self.adapter(self.hf_model(folder), arch, f"start-{arch}")
                theirs = self.hf_train(peft, windows)
                out = self.new(f"lora-{arch}")
                ours = self.train(out, *WORK, "--adapter", start, model=folder)
                self.assertEqual(ours[0]["tokens"], SEQ * BATCH)
                worst = self.assert_close(losses(ours), theirs, LOSS_BAR)
                # Theirs here
                peft.save_pretrained(self.folder / f"theirs-{arch}")
                loss, tokens = self.hf_loss(peft, windows)
                read = self.our_loss(folder, "--adapter", self.folder / f"theirs-{arch}")
                self.assertEqual((read["tokens"], read["documents"]), (tokens, 6))
                self.assertLessEqual(abs(read["loss"] / loss - 1), LOGIT_BAR)
                # Ours there
                loaded = PeftModel.from_pretrained(self.hf_model(folder), out / f"checkpoint-{STEPS}")
                loss, _ = self.hf_loss(loaded, windows)
                told = self.our_loss(folder, "--adapter", out / f"checkpoint-{STEPS}")
                self.assertLessEqual(abs(told["loss"] / loss - 1), LOGIT_BAR)
                for (name, a), (_, b) in zip(sorted(loaded.state_dict().items()), sorted(peft.state_dict().items())):
                    if "lora" in name:
                        self.assertLessEqual(relative(a, b), 1e-3, name)
                print(f"{arch}: 20 LoRA losses {worst:.1e}, evaluation {abs(told['loss'] / loss - 1):.1e}")

    def test_a_new_adapter_loads_in_peft(self):
        folder = self.model("llama")
        for flags in (["--lora-targets", "all-linear", "--rslora", "--lora-rank", "4", "--lora-alpha", "6"], []):
            out = self.new(f"new-{len(flags)}")
            self.train(out, *WORK, "--steps", 3, *flags, model=folder)
            loaded = PeftModel.from_pretrained(self.hf_model(folder), out / "checkpoint-3")
            loss, _ = self.hf_loss(loaded, self.windows(folder))
            self.assertLessEqual(abs(self.our_loss(folder, "--adapter", out / "checkpoint-3")["loss"] / loss - 1), LOGIT_BAR)

    def test_full_losses_and_checkpoint(self):
        for arch, *flags in (["llama"], ["qwen2", "--tie"], ["mistral"], ["gpt2"]):
            with self.subTest(arch):
                folder = self.model(arch, *flags)
                windows = self.windows(folder)
                theirs = self.hf_train(self.hf_model(folder), windows)
                out = self.new(f"full-{arch}")
                ours = self.train(out, *WORK, "--method", "full", model=folder)
                worst = self.assert_close(losses(ours), theirs, LOSS_BAR)
                trained = out / f"checkpoint-{STEPS}"
                loss, tokens = self.hf_loss(AutoModelForCausalLM.from_pretrained(trained), windows)
                told = self.our_loss(trained)
                self.assertEqual(told["tokens"], tokens)
                self.assertLessEqual(abs(told["loss"] / loss - 1), LOGIT_BAR)
                print(f"{arch}: 20 full losses {worst:.1e}, evaluation of the checkpoint {abs(told['loss'] / loss - 1):.1e}")

    def test_a_checkpoint_names_the_type_of_its_weights(self):
        """Also where the model came in another one, so that transformers loads it as it is."""
        folder = self.new("in-bf16")
        self.hf_model(self.model("llama")).to(torch.bfloat16).save_pretrained(folder)
        AutoTokenizer.from_pretrained(self.model("llama")).save_pretrained(folder)
        for dtype, wanted in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            out = self.new(f"typed-{dtype}")
            self.train(out, *WORK, "--steps", 2, "--method", "full", "--dtype", dtype, model=folder)
            loaded = AutoModelForCausalLM.from_pretrained(out / "checkpoint-2")
            self.assertEqual(loaded.dtype, wanted)
            if dtype == "fp32":
                loss, _ = self.hf_loss(loaded, self.windows(folder))
                self.assertLessEqual(abs(self.our_loss(out / "checkpoint-2")["loss"] / loss - 1), LOGIT_BAR)

    def test_greedy_text(self):
        for arch in ("llama", "qwen3", "gpt2"):
            with self.subTest(arch):
                out = self.new(f"speak-{arch}")
                self.train(out, *WORK, "--steps", 60, "--lr", "5e-3", "--method", "full", model=self.model(arch))
                folder = out / "checkpoint-60"
                model, tokenizer = self.hf_model(folder).eval(), AutoTokenizer.from_pretrained(folder)
                for prompt in ("The ", "rigwise", "Licen"):
                    ids = tokenizer(prompt, return_tensors="pt")
                    told = model.generate(**ids, do_sample=False, max_new_tokens=40, pad_token_id=0)[0, ids["input_ids"].shape[1]:]
                    theirs = tokenizer.decode(told, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                    ours = engine("generate", "--model", folder, "--prompt", prompt, "--max-tokens", 40)
                    self.assertEqual(ours.returncode, 0, ours.stderr)
                    self.assertEqual(ours.stdout, theirs + "\n")

    def test_drawn_text_repeats_with_its_seed(self):
        def said(seed):
            return engine("generate", "--model", self.model(), "--prompt", "a", "--max-tokens", 20, "--temperature", 1, "--seed", seed).stdout
        self.assertEqual(said(1), said(1))
        self.assertNotEqual(said(1), said(2))

    def dump(self, **request):
        out, path = self.folder / "dump.safetensors", self.folder / "request.json"
        path.write_text(json.dumps({**request, "out": str(out)}))
        subprocess.run([os.environ["RIGWISE_MODEL_DUMP"], path], check=True)
        return load_file(out)

    def quantised(self, folder):
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                    bnb_4bit_compute_dtype=torch.float32)
        return self.hf_model(folder, quantization_config=config, device_map="cpu")

    def test_qlora(self):
        folder = self.model("llama")
        windows = self.windows(folder)
        model = self.quantised(folder)
        kept = self.new("kept-in-4-bit")
        model.save_pretrained(kept)
        AutoTokenizer.from_pretrained(folder).save_pretrained(kept)
        self.assertTrue(any("quant_state" in name for name in load_file(kept / "model.safetensors")))
        ids = torch.tensor(windows[:4])
        for source in (folder, kept):
            ours = self.dump(model=str(source), windows=ids.tolist(), storage="nf4_double")["logits"]
            theirs = model(input_ids=ids).logits.detach().flatten(0, 1)
            self.assertLessEqual(relative(ours, theirs), LOGIT_BAR)
            print(f"QLoRA logits of {source.name}: {relative(ours, theirs):.1e}")
        loss, _ = self.hf_loss(self.quantised(folder), windows)  # which packs the weights anew, in bf16
        from_full = self.our_loss(folder, "--method", "qlora")
        from_kept = self.our_loss(kept)
        self.assertEqual(from_full["loss"], from_kept["loss"], "quantised here and there alike")
        self.assertLessEqual(abs(from_full["loss"] / loss - 1), LOGIT_BAR)
        peft, start = self.adapter(model, "llama", "start-qlora")
        theirs = self.hf_train(peft, windows)
        for name, source in (("full", folder), ("kept", kept)):
            ours = self.train(self.new(f"qlora-{name}"), *WORK, "--method", "qlora", "--adapter", start, model=source)
            print(f"QLoRA from {name}: 20 losses {self.assert_close(losses(ours), theirs, LOSS_BAR):.1e}")
        told = self.our_loss(kept, "--adapter", self.folder / "qlora-kept" / f"checkpoint-{STEPS}")
        loaded = PeftModel.from_pretrained(self.quantised(folder), self.folder / "qlora-kept" / f"checkpoint-{STEPS}")
        loss, _ = self.hf_loss(loaded, windows)
        self.assertLessEqual(abs(told["loss"] / loss - 1), LOGIT_BAR)


if __name__ == "__main__":
    unittest.main(verbosity=2)
