#!/usr/bin/env python3
"""Compare a base model with its LoRA adapter on held-out text.

What: packs the text into blocks exactly as train.py does, computes the mean loss per
token of the base model and of base + adapter on the same blocks, and prints both with
their perplexities.

Why: two runs that were equally fast are only equally good if their adapters score the
same on text that neither has seen.

Example:
    python eval.py --model model --adapter out/one --data data/held.jsonl
"""

import argparse
import json
import math
import os
import time

from train import fail, load_base, load_blocks


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", required=True, help="base model: a folder or a hub name, the one that was trained on")
    add("--adapter", help="folder that train.py wrote, or one of its checkpoints; without it only the base is scored")
    add("--data", required=True, help='held-out text: a .jsonl file with {"text": ...} rows')
    add("--seq_len", type=int, default=512, help="tokens in a block (default: %(default)s)")
    add("--batch_size", type=int, default=4, help="blocks per forward pass (default: %(default)s)")
    add("--max_samples", type=int, help="score only the first blocks (default: all)")
    add("--bf16", action="store_true", help="load in bfloat16 (recent GPUs)")
    add("--cpu", action="store_true", help="use the CPU even if there is a GPU")
    add("--cpu_threads", type=int, default=0, help="CPU threads; 0 leaves torch's choice (default: 0)")
    add("--json", metavar="FILE", help="also write the figures to this file")
    args = parser.parse_args()
    if args.seq_len < 2 or args.batch_size < 1:
        parser.error("--seq_len must be 2 or more and --batch_size 1 or more")
    if not os.path.isfile(args.data):
        parser.error(f"--data {args.data}: no such file")
    if args.adapter and not os.path.isfile(os.path.join(args.adapter, "adapter_config.json")):
        parser.error(f"--adapter {args.adapter}: not an adapter folder (it holds no adapter_config.json)")
    return args


def mean_loss(model, blocks, batch_size, device):
    """Return the mean loss per predicted token and the number of such tokens.

    Every block predicts all its tokens but the first, so blocks weigh the same and a
    shorter last batch is weighed by its length.
    """
    import torch

    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(blocks), batch_size):
            ids = torch.tensor([block["input_ids"] for block in blocks[start : start + batch_size]], device=device)
            total += model(input_ids=ids, labels=ids).loss.item() * len(ids)
    return total / len(blocks), len(blocks) * (len(blocks[0]["input_ids"]) - 1)


def main():
    args = parse_args()
    import torch
    from peft import PeftModel

    if args.cpu_threads:
        torch.set_num_threads(args.cpu_threads)
    device = torch.device("cpu")
    if not args.cpu and torch.accelerator.is_available():
        device = torch.accelerator.current_accelerator()

    model, tokenizer = load_base(args.model, torch.bfloat16 if args.bf16 else torch.float32)
    blocks = load_blocks(args.data, tokenizer, args.seq_len, args.max_samples)
    scores = {}

    def score(name, scored):
        begin = time.perf_counter()
        loss, tokens = mean_loss(scored.to(device).eval(), blocks, args.batch_size, device)
        seconds = time.perf_counter() - begin
        perplexity = math.exp(min(loss, 700.0))
        scores[name] = {"loss": loss, "perplexity": perplexity, "tokens": tokens, "seconds": seconds}
        print(f"{name:<16}{loss:>9.4f}{perplexity:>14.2f}{tokens:>11,}{seconds:>11.2f}")

    print(f"{'':<16}{'loss':>9}{'perplexity':>14}{'tokens':>11}{'seconds':>11}")
    score("base", model)
    if args.adapter:
        try:
            model = PeftModel.from_pretrained(model, args.adapter)
        except Exception as error:  # wrong base model, truncated file, unknown adapter kind
            lines = str(error).strip().splitlines() or [type(error).__name__]
            fail("\n  ".join([f"cannot load --adapter {args.adapter} on {args.model}"] + lines[:3]))
        score("base + adapter", model)
        gain = scores["base"]["loss"] - scores["base + adapter"]["loss"]
        print(f"The adapter {'lowers' if gain > 0 else 'raises'} the loss by {abs(gain):.4f} a token.")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(scores, file, indent=2)


if __name__ == "__main__":
    main()
