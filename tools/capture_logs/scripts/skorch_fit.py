"""skorch: the table that PrintLog writes, one row an epoch, the best values coloured."""

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Checkpoint, EpochScoring, LRScheduler


def main():
    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(120, 6)).astype("float32")
    y = (x.sum(1) > 0).astype("int64")
    net = NeuralNetClassifier(
        torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2), torch.nn.Softmax(-1)),
        max_epochs=5,
        lr=0.1,
        callbacks=[
            Checkpoint(dirname="out", monitor="valid_loss_best"),
            EpochScoring("roc_auc", lower_is_better=False),
            LRScheduler(),
        ],
    )
    net.fit(x, y)


main()
