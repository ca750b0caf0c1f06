"""Hugging Face Trainer: logging, evaluation, checkpoints. Arguments go to TrainingArguments."""

import sys

import tiny
import torch
from transformers import HfArgumentParser, Trainer, TrainingArguments


def main():
    defaults = [
        "--output_dir",
        "out",
        "--max_steps",
        "12",
        "--logging_steps",
        "3",
        "--per_device_train_batch_size",
        "2",
        "--report_to",
        "none",
        "--use_cpu",
        "true",
        "--save_steps",
        "6",
        "--learning_rate",
        "1e-3",
    ]
    (args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(defaults + sys.argv[1:])
    made = torch.Generator().manual_seed(0)
    rows = [{"input_ids": t, "labels": t} for t in torch.randint(0, 300, (64, 32), generator=made)]
    trainer = Trainer(model=tiny.model(), args=args, train_dataset=rows, eval_dataset=rows[:8])
    trainer.train()


main()
