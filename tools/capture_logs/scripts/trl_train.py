"""TRL: sft, dpo, grpo, kto or reward on a tiny Llama. trl_train.py METHOD [more arguments of its configuration]."""

import sys

import tiny
from datasets import Dataset
from transformers import HfArgumentParser

METHOD = sys.argv[1]
DEFAULTS = [
    "--output_dir",
    "out",
    "--max_steps",
    "6",
    "--logging_steps",
    "2",
    "--per_device_train_batch_size",
    "2",
    "--report_to",
    "none",
    "--use_cpu",
    "true",
    "--save_steps",
    "4",
    "--learning_rate",
    "1e-3",
    "--bf16",
    "false",
    "--gradient_checkpointing",
    "false",
]


def parse(kind):
    """Return the configuration object of the method."""
    return HfArgumentParser(kind).parse_args_into_dataclasses(DEFAULTS + sys.argv[2:])[0]


def main():
    texts = tiny.texts()
    words = tiny.tokenizer()
    if METHOD == "sft":
        from trl import SFTConfig, SFTTrainer

        rows = Dataset.from_dict({"text": texts})
        SFTTrainer(
            model=tiny.model(),
            args=parse(SFTConfig),
            train_dataset=rows,
            eval_dataset=rows.select(range(8)),
            processing_class=words,
        ).train()
    elif METHOD in ("dpo", "reward"):
        rows = Dataset.from_dict(
            {
                "prompt": [t[:20] for t in texts],
                "chosen": [t[20:50] for t in texts],
                "rejected": [t[50:80] for t in texts],
            }
        )
        if METHOD == "dpo":
            from trl import DPOConfig, DPOTrainer

            tiny.save("model")
            DPOTrainer(model="model", args=parse(DPOConfig), train_dataset=rows, processing_class=words).train()
        else:
            from transformers import AutoModelForSequenceClassification
            from trl import RewardConfig, RewardTrainer

            tiny.save("model")
            scorer = AutoModelForSequenceClassification.from_pretrained("model", num_labels=1)
            RewardTrainer(model=scorer, args=parse(RewardConfig), train_dataset=rows, processing_class=words).train()
    elif METHOD == "grpo":
        from trl import GRPOConfig, GRPOTrainer

        rows = Dataset.from_dict({"prompt": [t[:20] for t in texts]})
        GRPOTrainer(
            model=tiny.model(),
            args=parse(GRPOConfig),
            train_dataset=rows,
            processing_class=words,
            reward_funcs=lambda completions, **_: [float(c.count("a")) for c in completions],
        ).train()


main()
