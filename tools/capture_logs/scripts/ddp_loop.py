"""A plain DDP loop under torchrun: ddp_loop.py print|log: every rank prints its own line, as home-made scripts do."""

import logging
import os
import sys
import time

import torch
import torch.distributed as dist


def main():
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(rank)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s [rank{rank}] %(levelname)s: %(message)s")
    for step in range(1, 9):
        begin = time.perf_counter()
        x = torch.randn(32, 64)
        loss = torch.nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ms = 1000 * (time.perf_counter() - begin)
        text = f"step {step}/8 | loss {loss.item():.4f} | grad norm {norm.item():.3f} | lr {optimizer.param_groups[0]['lr']:.2e} | {ms:.2f} ms/step"
        if sys.argv[1] == "print":
            print(f"[rank {rank}] {text}")
        else:
            logging.info(text)
    if rank == 0:
        os.makedirs("ckpt", exist_ok=True)
        torch.save(model.state_dict(), "ckpt/step_8.pt")
        print("saved checkpoint to ckpt/step_8.pt")
    dist.destroy_process_group()


main()
