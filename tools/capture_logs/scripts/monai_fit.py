"""MONAI: SupervisedTrainer (over ignite) with StatsHandler, the way its tutorials log."""

import logging
import sys

import torch
from monai.engines import SupervisedTrainer
from monai.handlers import CheckpointSaver, LrScheduleHandler, StatsHandler, from_engine


def main():
    logging.basicConfig(stream=sys.stdout, level=logging.INFO)
    torch.manual_seed(0)
    rows = [{"image": torch.randn(8), "label": torch.randn(1)} for _ in range(32)]
    net = torch.nn.Linear(8, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    handlers = [
        LrScheduleHandler(torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5), print_lr=True),
        StatsHandler(name="train", tag_name="train_loss", output_transform=from_engine(["loss"], first=True)),
        CheckpointSaver("out", {"net": net}, name="saver", save_interval=1),
    ]
    SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=2,
        train_data_loader=torch.utils.data.DataLoader(rows, batch_size=8),
        network=net,
        optimizer=optimizer,
        loss_function=torch.nn.MSELoss(),
        train_handlers=handlers,
    ).run()


main()
