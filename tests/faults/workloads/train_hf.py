#!/usr/bin/env python3
"""LoRA fine-tuning with transformers' Trainer and PEFT; rows are tokenised on the way, by a dataset of our own.

    python train_hf.py --model model --data data/train.jsonl --max-steps 60 --out out
    torchrun --standalone --nproc_per_node 2 train_hf.py --model model --data data/train.jsonl --out out
"""
import argparse
import json
import os

from stopwatch import watch

import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import Dataset
from transformers import (AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments,
                          default_data_collator, set_seed)

import slowness


class Rows(Dataset):
    def __init__(self, path, tokenizer, length, opts, repeat=1):
        with open(path, encoding="utf-8") as file:
            self.texts = [json.loads(line)["text"] for line in file] * repeat
        self.tokenizer, self.length, self.opts = tokenizer, length, opts

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, index):
        slowness.slow_read(self.opts.read_s)
        slowness.costly(self.opts.prep_rounds)
        ids = self.tokenizer(self.texts[index], truncation=True, max_length=self.length, padding="max_length")["input_ids"]
        return {"input_ids": ids, "labels": ids}


class StepsEnd(TrainerCallback):
    def __init__(self, opts):
        self.opts = opts

    def on_train_begin(self, args, state, control, **kwargs):
        watch.now("compute")

    def on_step_end(self, args, state, control, **kwargs):
        watch.step_end()

    def on_train_end(self, args, state, control, **kwargs):
        watch.now("teardown")


def keep_time():
    """Waits for data, saves and evaluations go to the stopwatch, whoever starts them."""
    import torch.utils.data.dataloader as loading

    def timed(function, state):
        def around(*args, **kwargs):
            with watch.during(state):
                return function(*args, **kwargs)
        return around

    loading._BaseDataLoaderIter.__next__ = timed(loading._BaseDataLoaderIter.__next__, "input")
    for name, state in (("_save_checkpoint", "checkpoint"), ("save_model", "checkpoint"), ("evaluate", "evaluation")):
        setattr(Trainer, name, timed(getattr(Trainer, name), state))


def keep_time_of_ranks():
    """Waits for the other ranks: what is left of a backward pass once its last bucket is under way, and plain collectives."""
    import torch.distributed as dist
    from accelerate import Accelerator
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
    from torch.nn.parallel import DistributedDataParallel

    make, backward, under_way = DistributedDataParallel.__init__, Accelerator.backward, []

    def reduce_and_note(state, bucket):
        watch.flush()
        under_way.append(bucket.index())
        return default_hooks.allreduce_hook(state, bucket)

    def make_with_hook(self, *args, **kwargs):
        make(self, *args, **kwargs)
        self.register_comm_hook(None, reduce_and_note)

    def backward_then_wait(self, *args, **kwargs):
        backward(self, *args, **kwargs)
        if under_way:
            under_way.clear()
            watch.flush(instead="sync")

    def waits(function):
        def around(*args, **kwargs):
            with watch.during("sync"):
                return function(*args, **kwargs)
        return around

    DistributedDataParallel.__init__ = make_with_hook
    Accelerator.backward = backward_then_wait
    for name in ("all_gather", "all_gather_into_tensor", "all_reduce", "barrier", "broadcast"):
        setattr(dist, name, waits(getattr(dist, name)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", required=True)
    add("--data", required=True)
    add("--eval-data")
    add("--out", default="out")
    add("--max-steps", type=int, default=60)
    add("--batch", type=int, default=4)
    add("--length", type=int, default=128)
    add("--workers", type=int, default=0)
    add("--logging-steps", type=int, default=1)
    add("--save-steps", type=int, default=0)
    add("--eval-steps", type=int, default=0)
    add("--eval-rows", type=int, default=16)
    add("--no-bar", action="store_true")
    add("--read-s", type=float, default=0.0, help="seconds that reading one row waits")
    add("--prep-rounds", type=int, default=0, help="rounds of text cleaning a row")
    add("--start-s", type=float, default=0.0)
    add("--start-rounds", type=int, default=0)
    add("--end-s", type=float, default=0.0)
    opts = parser.parse_args()

    torch.set_num_threads(1)
    set_seed(7)
    slowness.slow_read(opts.start_s, "startup")
    slowness.costly(opts.start_rounds, "startup")
    tokenizer = AutoTokenizer.from_pretrained(opts.model)
    model = AutoModelForCausalLM.from_pretrained(opts.model, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    train = Rows(opts.data, tokenizer, opts.length, opts, repeat=20)
    held = None
    if opts.eval_data:
        plain = argparse.Namespace(**{**vars(opts), "read_s": 0.0, "prep_rounds": 0})
        held = Rows(opts.eval_data, tokenizer, opts.length, plain)
        held.texts = (held.texts * (1 + opts.eval_rows // len(held.texts)))[:opts.eval_rows]
    arguments = TrainingArguments(
        output_dir=opts.out, max_steps=opts.max_steps, per_device_train_batch_size=opts.batch,
        per_device_eval_batch_size=opts.batch, learning_rate=1e-3, logging_steps=opts.logging_steps,
        save_strategy="steps" if opts.save_steps else "no", save_steps=max(opts.save_steps, 1),
        eval_strategy="steps" if opts.eval_steps else "no", eval_steps=max(opts.eval_steps, 1),
        dataloader_num_workers=opts.workers, ddp_find_unused_parameters=False, disable_tqdm=opts.no_bar,
        use_cpu=True, report_to="none", seed=7)
    keep_time()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        keep_time_of_ranks()
    trainer = Trainer(model=model, args=arguments, train_dataset=train, eval_dataset=held,
                      data_collator=default_data_collator, callbacks=[StepsEnd(opts)])
    trainer.train()
    slowness.slow_read(opts.end_s, "teardown")
    if opts.save_steps:
        trainer.save_model(os.path.join(opts.out, "final"))


if __name__ == "__main__":
    main()
