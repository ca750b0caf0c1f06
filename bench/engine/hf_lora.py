"""What a user of transformers and PEFT runs: LoRA by Trainer on windows of a text. Prints one JSON line:
{"tokens_per_s": steady (median step, warm-up left out), "peak_memory_bytes", "losses", "step_times_s"}."""

import argparse
import json
import os
import resource
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--data", required=True)
parser.add_argument("--out", required=True)
parser.add_argument("--adapter")
parser.add_argument("--steps", type=int, default=12)
parser.add_argument("--warm", type=int, default=2)
parser.add_argument("--seq", type=int, default=512)
parser.add_argument("--batch", type=int, default=4)
parser.add_argument("--lr", type=float, default=2e-4)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--documents", action="store_true", help="one padded document a row instead of windows of a stream")
options = parser.parse_args()
torch.set_num_threads(options.threads)

tokenizer = AutoTokenizer.from_pretrained(options.model)
text = open(options.data, encoding="utf-8").read()
if options.documents:
    rows = [tokenizer(part.strip("\n"))["input_ids"][: options.seq] for part in text.split("\n<|doc|>\n")]
    rows = [row for row in rows if len(row) > 1]
else:
    ids = tokenizer(text)["input_ids"]
    rows = [ids[i : i + options.seq] for i in range(0, len(ids) - options.seq, options.seq)]


class Rows(Dataset):
    def __len__(self):
        return len(rows)

    def __getitem__(self, index):
        return {"input_ids": rows[index]}


def collate(batch):
    longest = max(len(row["input_ids"]) for row in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for row, item in enumerate(batch):
        values = torch.tensor(item["input_ids"])
        ids[row, : len(values)], labels[row, : len(values)], mask[row, : len(values)] = values, values, 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


class InOrder(Trainer):
    def _get_train_sampler(self, *args, **kwargs):
        return torch.utils.data.SequentialSampler(rows)


class Clock(TrainerCallback):
    def __init__(self):
        self.times, self.losses = [], []

    def on_step_begin(self, *args, **kwargs):
        self.began = time.perf_counter()

    def on_step_end(self, *args, **kwargs):
        self.times.append(time.perf_counter() - self.began)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))


model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
if options.adapter:
    model = PeftModel.from_pretrained(model, options.adapter, is_trainable=True)
else:
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"]))
clock = Clock()
arguments = TrainingArguments(output_dir=options.out, max_steps=options.steps, per_device_train_batch_size=options.batch,
                              learning_rate=options.lr, lr_scheduler_type="linear", logging_steps=1, save_strategy="no",
                              report_to=[], use_cpu=True, ddp_backend="gloo" if "RANK" in os.environ else None, disable_tqdm=True, seed=0)
InOrder(model=model, args=arguments, train_dataset=Rows(), data_collator=collate, callbacks=[clock]).train()
useful = [sum(len(rows[i % len(rows)]) for i in range(s * options.batch, (s + 1) * options.batch)) for s in range(options.steps)]
times = clock.times[options.warm :]
ranks = int(os.environ.get("WORLD_SIZE", 1))  # under torchrun, Trainer wraps the model in DistributedDataParallel
if int(os.environ.get("RANK", 0)) == 0:
    print(json.dumps({"tokens_per_s": ranks * sum(useful[options.warm :]) / sum(times), "step_times_s": times, "losses": clock.losses,
                      "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
