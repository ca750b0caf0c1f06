"""LeRobot's metrics tracker and log format round a tiny loop: counters above 999 print as 1K."""

import logging
import time

import torch
from lerobot.utils.logging_utils import AverageMeter, MetricsTracker
from lerobot.utils.utils import init_logging


def main():
    init_logging()
    torch.manual_seed(0)
    net = torch.nn.Linear(8, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    kinds = {
        "loss": ("loss", ":.3f"),
        "grad_norm": ("grdn", ":.3f"),
        "lr": ("lr", ":0.1e"),
        "update_s": ("updt_s", ":.3f"),
        "dataloading_s": ("data_s", ":.3f"),
    }
    tracker = MetricsTracker(8, 5000, 25, {k: AverageMeter(*v) for k, v in kinds.items()})
    logging.info("Start offline training on a fixed dataset")
    for step in range(1, 1601):
        begin = time.perf_counter()
        x = torch.randn(8, 8)
        tracker.dataloading_s = time.perf_counter() - begin
        loss = torch.nn.functional.mse_loss(net(x), x.sum(1, keepdim=True))
        loss.backward()
        tracker.grad_norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0).item()
        optimizer.step()
        optimizer.zero_grad()
        tracker.loss = loss.item()
        tracker.lr = optimizer.param_groups[0]["lr"]
        tracker.update_s = time.perf_counter() - begin
        tracker.step()
        if step % 200 == 0:
            logging.info(tracker)
            tracker.reset_averages()
        if step % 800 == 0:
            logging.info(f"Checkpoint policy after step {step}")
    logging.info("End of training")


main()
