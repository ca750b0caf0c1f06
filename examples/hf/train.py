#!/usr/bin/env python3
"""LoRA fine-tuning of a causal language model with transformers and peft.

What: loads a base model, packs {"text": ...} rows into blocks of --seq_len tokens (no
padding, so every step does the same amount of work), trains LoRA adapters on all linear
layers with the Hugging Face Trainer, and saves the adapter.

Runs on one device or, started by torchrun, on several (data parallel: NCCL between GPUs,
Gloo between CPU processes). One optimizer step takes processes x batch size x accumulation
blocks; keep that product equal when you compare one device with two.

Examples:
    python train.py --model model --data data/train.jsonl --output_dir out/one \\
        --gradient_accumulation_steps 2
    torchrun --nproc_per_node 2 train.py --model model --data data/train.jsonl --output_dir out/two
"""

import argparse
import json
import os
import sys


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument

    add("--model", required=True, help="base model: a folder, or a hub name such as HuggingFaceTB/SmolLM2-135M")
    add("--data", required=True, help='training text: a .jsonl file with {"text": ...} rows')
    add("--eval_data", help="held-out text in the same form; without it nothing is evaluated")
    add("--output_dir", default="out", help="folder for checkpoints and the adapter (default: %(default)s)")
    add("--seq_len", type=int, default=512, help="tokens in a block (default: %(default)s)")
    add("--max_train_samples", type=int, help="use only the first blocks for training (default: all)")
    add("--max_eval_samples", type=int, help="use only the first blocks for evaluation (default: all)")

    add("--max_steps", type=int, default=200, help="optimizer steps to train (default: %(default)s)")
    add("--per_device_train_batch_size", type=int, default=4, help="blocks per forward pass (default: %(default)s)")
    add("--per_device_eval_batch_size", type=int, default=4, help="the same in evaluation (default: %(default)s)")
    add("--gradient_accumulation_steps", type=int, default=1, help="forward passes per step (default: %(default)s)")
    add("--learning_rate", type=float, default=2e-4, help="peak learning rate (default: %(default)s)")
    add("--warmup_steps", type=int, default=0, help="steps up to the peak rate (default: %(default)s)")
    add("--lora_rank", type=int, default=8, help="rank of the adapters (default: %(default)s)")
    add("--lora_alpha", type=int, help="scale of the adapters (default: twice the rank)")
    add("--lora_dropout", type=float, default=0.0, help="dropout in front of the adapters (default: %(default)s)")
    add("--seed", type=int, default=42, help="seed of the adapters and of the order of blocks (default: %(default)s)")

    add("--logging_steps", type=int, default=10, help="log every this many steps (default: %(default)s)")
    add("--save_steps", type=int, default=100, help="checkpoint every this many steps; 0 for never (default: 100)")
    add("--save_total_limit", type=int, help="keep only this many checkpoints (default: all)")
    add("--eval_steps", type=int, default=100, help="evaluate every this many steps (default: %(default)s)")
    add("--resume", nargs="?", const="last", help="go on from this checkpoint folder, or from the last one")

    add("--bf16", action="store_true", help="load and train in bfloat16 (recent GPUs)")
    add("--gradient_checkpointing", action="store_true", help="recompute activations: less memory, slower steps")
    add("--dataloader_num_workers", type=int, default=0, help="loader processes per rank (default: %(default)s)")
    add("--cpu", action="store_true", help="train on the CPU even if there is a GPU")
    add("--cpu_threads", type=int, default=0, help="CPU threads per process; 0 leaves torch's choice (default: 0)")
    args = parser.parse_args()

    counts = "seq_len max_steps lora_rank logging_steps eval_steps gradient_accumulation_steps"
    counts += " per_device_train_batch_size per_device_eval_batch_size max_train_samples max_eval_samples"
    for name in counts.split():
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name} must be 1 or more")
    for name in ("data", "eval_data"):
        path = getattr(args, name)
        if path and not os.path.isfile(path):
            parser.error(f"--{name} {path}: no such file")
    # A hub name has at most one slash and begins with a letter or digit; anything else is a folder.
    if args.model[:1] in "./~" or args.model.count("/") > 1 or os.path.isdir(args.model):
        if not os.path.isfile(os.path.join(args.model, "config.json")):
            parser.error(f"--model {args.model}: not a model folder (there is no config.json in it)")
    if args.resume and args.resume != "last" and not os.path.isdir(args.resume):
        parser.error(f"--resume {args.resume}: no such folder")
    return args


def fail(message):
    """Say what went wrong, then leave with status 2 (the same as for a wrong argument)."""
    print(f"{os.path.basename(sys.argv[0])}: error: {message}", file=sys.stderr)
    sys.exit(2)


def load_base(name, dtype):
    """Return (model, tokenizer) from a folder or the hub."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
    except Exception as error:  # the loaders raise many kinds: missing, malformed, no network, no access
        lines = str(error).strip().splitlines() or [type(error).__name__]
        fail("\n  ".join([f"cannot load --model {name}"] + lines[:5]))
    return model, tokenizer


def load_blocks(path, tokenizer, seq_len, limit=None):
    """Join all rows with end-of-text tokens; return at most limit blocks of seq_len tokens, dropping the short rest."""
    texts = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                texts.append(json.loads(line)["text"])
            except (ValueError, KeyError, TypeError):
                fail(f'{path}:{number}: not a {{"text": ...}} row')
    stream = []
    for ids in tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []:
        stream += ids + [tokenizer.eos_token_id]
    blocks = [stream[i : i + seq_len] for i in range(0, len(stream) - seq_len + 1, seq_len)]
    if not blocks:
        fail(f"{path} holds {len(stream)} tokens, too few for one block of --seq_len {seq_len}")
    return [{"input_ids": block, "labels": block} for block in blocks[:limit]]


def main():
    args = parse_args()
    # Imported after the arguments are known to be good: --help and mistakes answer at once.
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainingArguments, default_data_collator, set_seed
    from transformers.trainer_utils import get_last_checkpoint

    if args.cpu_threads:
        torch.set_num_threads(args.cpu_threads)

    training = TrainingArguments(
        output_dir=args.output_dir,
        max_steps=args.max_steps,
        per_device_train_batch_size=args.per_device_train_batch_size,
        per_device_eval_batch_size=args.per_device_eval_batch_size,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        learning_rate=args.learning_rate,
        warmup_steps=args.warmup_steps,
        logging_steps=args.logging_steps,
        save_strategy="steps" if args.save_steps > 0 else "no",
        save_steps=max(args.save_steps, 1),
        save_total_limit=args.save_total_limit,
        eval_strategy="steps" if args.eval_data else "no",
        eval_steps=args.eval_steps,
        bf16=args.bf16,
        **({"gradient_checkpointing": True} if args.gradient_checkpointing else {}),
        dataloader_num_workers=args.dataloader_num_workers,
        dataloader_drop_last=True,
        include_num_input_tokens_seen="all",
        ddp_find_unused_parameters=False,
        # Without this, CPU processes started by torchrun would not find each other.
        use_cpu=args.cpu or not torch.accelerator.is_available(),
        seed=args.seed,
        report_to="none",
    )
    set_seed(args.seed)

    checkpoint = args.resume
    if args.resume == "last":
        checkpoint = get_last_checkpoint(args.output_dir) if os.path.isdir(args.output_dir) else None
        if checkpoint is None:
            fail(f"--resume: there is no checkpoint in {args.output_dir}")

    model, tokenizer = load_base(args.model, torch.bfloat16 if args.bf16 else torch.float32)
    train_blocks = load_blocks(args.data, tokenizer, args.seq_len, args.max_train_samples)
    eval_blocks = None
    if args.eval_data:
        eval_blocks = load_blocks(args.eval_data, tokenizer, args.seq_len, args.max_eval_samples)
    # train_batch_size counts every GPU that this process drives: the Trainer uses all that it can see.
    step_blocks = training.world_size * training.train_batch_size * args.gradient_accumulation_steps
    if len(train_blocks) < step_blocks:
        fail(f"{args.data} gives {len(train_blocks)} blocks, but one optimizer step takes {step_blocks}")

    lora = LoraConfig(
        r=args.lora_rank,
        lora_alpha=args.lora_alpha or 2 * args.lora_rank,
        lora_dropout=args.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, lora)
    if args.gradient_checkpointing:
        model.enable_input_require_grads()
    if training.process_index == 0:
        model.print_trainable_parameters()
        print(f"{len(train_blocks)} blocks of {args.seq_len} tokens, {step_blocks} per step")
        print(f"{training.world_size} process(es) train together")

    trainer = Trainer(
        model=model,
        args=training,
        train_dataset=train_blocks,
        eval_dataset=eval_blocks,
        data_collator=default_data_collator,
        processing_class=tokenizer,
    )
    result = trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)


if __name__ == "__main__":
    main()
