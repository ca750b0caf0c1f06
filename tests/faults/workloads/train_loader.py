#!/usr/bin/env python3
"""Train a small byte-level language model with torch and a DataLoader; under torchrun with DistributedDataParallel.

    python train_loader.py --steps 200 --workers 2 --out out
    torchrun --standalone --nproc_per_node 2 train_loader.py --steps 100 --out out
"""
import argparse
import json
import os
import time

from stopwatch import RANK, watch

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, DistributedSampler

import slowness


class Text(Dataset):
    """Random pieces of a text made from a seed."""

    def __init__(self, args, rows, seed):
        generator = torch.Generator().manual_seed(seed)
        self.bytes = torch.randint(32, 127, (1 << 20,), generator=generator)
        self.rows, self.args = rows, args

    def __len__(self):
        return self.rows

    def __getitem__(self, index):
        slowness.slow_read(self.args.read_s)
        slowness.costly(self.args.prep_rounds)
        at = (index * 7919) % (len(self.bytes) - self.args.length - 1)
        piece = self.bytes[at:at + self.args.length + 1]
        return piece[:-1], piece[1:]


class Model(nn.Module):
    def __init__(self, width, layers, length):
        super().__init__()
        self.token = nn.Embedding(128, width)
        self.place = nn.Parameter(torch.randn(length, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 128)

    def forward(self, tokens):
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.head(self.body(self.token(tokens) + self.place[:tokens.shape[1]], mask=mask, is_causal=True))


class Printer:
    """Progress as people print it: key=value, a bar, dicts, JSON lines, or prose."""

    def __init__(self, style, steps):
        self.style, self.bar, self.steps = style, None, steps
        if style == "bar" and RANK == 0:
            from tqdm import tqdm
            self.bar = tqdm(total=steps, desc="train")

    def step(self, number, loss, took):
        if RANK != 0:
            return
        if self.bar is not None:
            self.bar.update(1)
            self.bar.set_postfix(loss=f"{loss:.4f}")
        elif self.style == "dict":
            print({"loss": round(loss, 4), "step": number}, flush=True)
        elif self.style == "json":
            print(json.dumps({"step": number, "loss": loss, "step_time": took}), flush=True)
        elif self.style == "prose":
            print(f"[{time.strftime('%H:%M:%S')}] Step {number}/{self.steps} | loss: {loss:.4f} | {took * 1000:.0f} ms",
                  flush=True)
        else:
            print(f"step={number} loss={loss:.4f} lr=3.0e-04 step_time={took:.3f}s", flush=True)

    def say(self, text):
        if RANK == 0:
            (self.bar.write if self.bar is not None else print)(text)


def evaluate(model, loader):
    model.eval()
    losses = []
    with torch.no_grad():
        for tokens, wanted in loader:
            losses.append(F.cross_entropy(model(tokens).flatten(0, 1), wanted.flatten()).item())
    model.train()
    return sum(losses) / len(losses)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--steps", type=int, default=200)
    add("--batch", type=int, default=8)
    add("--length", type=int, default=64)
    add("--width", type=int, default=192)
    add("--layers", type=int, default=3)
    add("--workers", type=int, default=0)
    add("--style", choices=["pairs", "bar", "dict", "json", "prose"], default="pairs")
    add("--out", default="out")
    add("--save-every", type=int, default=0)
    add("--save-dir")
    add("--eval-every", type=int, default=0)
    add("--eval-batches", type=int, default=4)
    add("--read-s", type=float, default=0.0, help="seconds that reading one sample waits")
    add("--prep-rounds", type=int, default=0, help="rounds of text cleaning a sample")
    add("--start-s", type=float, default=0.0, help="seconds of waiting before the model is made")
    add("--start-rounds", type=int, default=0, help="rounds of text cleaning before the model is made")
    add("--end-s", type=float, default=0.0, help="seconds of waiting after the last step")
    add("--slow-rank", type=int, default=-1)
    add("--slow-rounds", type=int, default=0, help="more arithmetic a step on that rank")
    return parser.parse_args()


def main():
    args = parse()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1:
        dist.init_process_group("gloo")
    slowness.slow_read(args.start_s, "startup")
    slowness.costly(args.start_rounds, "startup")

    rows = args.steps * args.batch * ranks
    data = Text(args, rows, seed=7)
    sampler = DistributedSampler(data, seed=3) if ranks > 1 else None
    loader = DataLoader(data, batch_size=args.batch, sampler=sampler, shuffle=sampler is None, num_workers=args.workers,
                        drop_last=True)
    plain = argparse.Namespace(**{**vars(args), "read_s": 0.0, "prep_rounds": 0})
    held = DataLoader(Text(plain, args.eval_batches * args.batch, seed=8), batch_size=args.batch)

    model = Model(args.width, args.layers, args.length)
    if ranks > 1:
        from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

        def reduce_and_note(state, bucket):  # the last bucket's call ends the arithmetic of the backward pass
            watch.flush()
            return default_hooks.allreduce_hook(state, bucket)

        model = nn.parallel.DistributedDataParallel(model)
        model.register_comm_hook(None, reduce_and_note)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    os.makedirs(args.save_dir or args.out, exist_ok=True)
    printer = Printer(args.style, args.steps)
    printer.say(f"{sum(p.numel() for p in model.parameters())} parameters, {ranks} rank(s), {args.workers} worker(s)")

    number, began = 0, time.perf_counter()
    watch.now("input")
    for tokens, wanted in loader:
        watch.now("compute")
        loss = F.cross_entropy(model(tokens).flatten(0, 1), wanted.flatten())
        if RANK == args.slow_rank:
            slowness.extra_compute(tokens, args.slow_rounds)
        optimizer.zero_grad()
        loss.backward()
        if ranks > 1:
            watch.flush(instead="sync")
        optimizer.step()
        number += 1
        printer.step(number, loss.item(), time.perf_counter() - began)
        began = time.perf_counter()
        watch.step_end()
        if args.eval_every and number % args.eval_every == 0:
            with watch.during("evaluation"):
                printer.say(f"eval: step={number} eval_loss={evaluate(model, held):.4f}")
            began = time.perf_counter()
        if args.save_every and number % args.save_every == 0 and RANK == 0:
            with watch.during("checkpoint"):
                path = os.path.join(args.save_dir or args.out, f"step-{number}.pt")
                torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": number}, path)
                printer.say(f"saved {path}")
            began = time.perf_counter()
        watch.now("input")
    watch.now("teardown")
    slowness.slow_read(args.end_s, "teardown")
    printer.say("done")
    if ranks > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
