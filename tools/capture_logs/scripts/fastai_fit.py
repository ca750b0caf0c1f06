"""fastai: a tabular-size learner, its table of epochs (fastprogress), a checkpoint callback."""

import fastai.callback.schedule  # noqa: F401  (gives the learner fit_one_cycle)
import torch
from fastai.callback.tracker import SaveModelCallback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.metrics import accuracy


def main():
    torch.manual_seed(0)
    x = torch.randn(96, 6)
    data = torch.utils.data.TensorDataset(x, (x.sum(1) > 0).long())
    loaders = DataLoaders(
        torch.utils.data.DataLoader(data, batch_size=16), torch.utils.data.DataLoader(data, batch_size=48)
    )
    learner = Learner(
        loaders, torch.nn.Linear(6, 2), loss_func=torch.nn.CrossEntropyLoss(), metrics=accuracy, model_dir="."
    )
    learner.fit_one_cycle(3, 0.05, cbs=SaveModelCallback(monitor="valid_loss", fname="best"))


main()
