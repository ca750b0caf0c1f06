"""Composer: composer_fit.py bar|lines: its progress bar, or its console logger."""

import sys

import torch
from composer import Trainer
from composer.models import ComposerClassifier
from torch.utils.data import DataLoader, TensorDataset


def main():
    torch.manual_seed(0)
    x = torch.randn(96, 8)
    data = TensorDataset(x, (x.sum(1) > 0).long())
    model = ComposerClassifier(torch.nn.Linear(8, 2), num_classes=2)
    bar = sys.argv[1] == "bar"
    Trainer(
        model=model,
        train_dataloader=DataLoader(data, batch_size=16),
        eval_dataloader=DataLoader(data, batch_size=48),
        max_duration="2ep",
        optimizers=torch.optim.SGD(model.parameters(), lr=0.1),
        device="cpu",
        progress_bar=bar,
        log_to_console=not bar,
        console_log_interval="3ba",
        seed=0,
        run_name="tiny",
        save_folder="ckpt",
        save_interval="1ep",
    ).fit()


main()
