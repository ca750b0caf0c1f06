#!/usr/bin/env python3
"""Train a small character model in a loop written by hand: torch and nothing else, batches cut from a file of tokens.

    python train_plain.py --iters 300 --out out
"""
import argparse
import math
import os
import time

from stopwatch import watch

import torch
import torch.nn as nn
from torch.nn import functional as F

import slowness


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.qkv, self.out, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (y.view(b, t, self.heads, c // self.heads).transpose(1, 2) for y in self.qkv(x).split(c, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, t, c))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.one, self.two = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.attention(self.one(x))
        return x + self.mlp(self.two(x))


class Net(nn.Module):
    """With a table: hashed trigrams of the bytes, too many rows to keep warm."""

    def __init__(self, width=160, depth=3, context=64, table_mb=0):
        super().__init__()
        self.table = nn.Embedding(table_mb * 4096, 64, sparse=True) if table_mb else None
        self.widen = nn.Linear(64, width) if table_mb else None
        self.wte, self.wpe = nn.Embedding(128, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 128, bias=False)

    def forward(self, tokens, targets):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        if self.table is not None:
            before = F.pad(tokens, (2, 0))
            trigram = (before[:, :-2] * 1000003 + before[:, 1:-1] * 10007 + tokens) * 2654435761
            x = x + self.widen(self.table(trigram % self.table.num_embeddings))
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.norm(x)).view(-1, 128), targets.reshape(-1))


class Data:
    def __init__(self, path, opts):
        if not os.path.exists(path):
            made = torch.randint(32, 127, (1 << 20,), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
            with open(path, "wb") as file:
                file.write(bytes(made.tolist()))
        with open(path, "rb") as file:
            self.tokens = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
        self.opts, self.generator = opts, torch.Generator().manual_seed(11)

    def get_batch(self, train=True):
        if train:
            slowness.slow_read(self.opts.read_s)
            slowness.costly(self.opts.prep_rounds)
        at = torch.randint(len(self.tokens) - 65, (self.opts.batch,), generator=self.generator)
        rows = torch.stack([self.tokens[i:i + 65].long() for i in at])
        return rows[:, :-1], rows[:, 1:]


@torch.no_grad()
def estimate_loss(net, data, batches):
    net.eval()
    losses = [net(*data.get_batch(train=False)).item() for _ in range(batches)]
    net.train()
    return sum(losses) / len(losses)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--iters", type=int, default=300)
    add("--batch", type=int, default=8)
    add("--log-every", type=int, default=5)
    add("--out", default="out")
    add("--save-dir")
    add("--save-every", type=int, default=0)
    add("--eval-every", type=int, default=0)
    add("--eval-iters", type=int, default=10)
    add("--table-mb", type=int, default=0, help="size of the table of hashed trigrams")
    add("--read-s", type=float, default=0.0, help="seconds that reading a batch waits")
    add("--prep-rounds", type=int, default=0, help="rounds of text cleaning a batch")
    add("--start-s", type=float, default=0.0)
    add("--start-rounds", type=int, default=0)
    add("--end-s", type=float, default=0.0)
    opts = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(1337)
    for folder in (opts.out, opts.save_dir or opts.out):
        os.makedirs(folder, exist_ok=True)
    slowness.slow_read(opts.start_s, "startup")
    slowness.costly(opts.start_rounds, "startup")
    data = Data(os.path.join(opts.out, "tokens.bin"), opts)
    net = Net(table_mb=opts.table_mb)
    dense = [p for name, p in net.named_parameters() if name != "table.weight"]
    optimizer = torch.optim.AdamW(dense, lr=6e-4, weight_decay=0.1)
    rows = torch.optim.SGD([net.table.weight], lr=0.1) if opts.table_mb else None
    print(f"number of parameters: {sum(p.numel() for p in net.parameters()) / 1e6:.2f}M", flush=True)

    t0 = time.time()
    for it in range(opts.iters):
        if opts.eval_every and it > 0 and it % opts.eval_every == 0:
            with watch.during("evaluation"):
                print(f"step {it}: val loss {estimate_loss(net, data, opts.eval_iters):.4f}", flush=True)
        if opts.save_every and it > 0 and it % opts.save_every == 0:
            with watch.during("checkpoint"):
                where = os.path.join(opts.save_dir or opts.out, "ckpt.pt")
                print(f"saving checkpoint to {where}", flush=True)
                torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "iter": it}, where)
        watch.now("input")
        x, y = data.get_batch()
        watch.now("compute")
        rate = 6e-4 * min(1.0, (it + 1) / 20) * (0.55 + 0.45 * math.cos(math.pi * it / opts.iters))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = net(x, y)
        loss.backward()
        nn.utils.clip_grad_norm_(dense, 1.0)
        optimizer.step()
        if rows is not None:
            rows.step()
            rows.zero_grad(set_to_none=True)
        optimizer.zero_grad(set_to_none=True)
        t1 = time.time()
        took, t0 = t1 - t0, t1
        if it % opts.log_every == 0:
            print(f"iter {it}: loss {loss.item():.4f}, time {took * 1000:.2f}ms", flush=True)
        watch.step_end()
    watch.now("teardown")
    slowness.slow_read(opts.end_s, "teardown")


if __name__ == "__main__":
    main()
