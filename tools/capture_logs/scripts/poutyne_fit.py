"""Poutyne: Model.fit with its coloured bar (or lines without one): poutyne_fit.py bar|lines."""

import sys

import torch
from poutyne import Model, ModelCheckpoint


def main():
    torch.manual_seed(0)
    x = torch.randn(96, 8)
    data = torch.utils.data.TensorDataset(x, (x.sum(1) > 0).long())
    net = torch.nn.Linear(8, 2)
    model = Model(
        net, torch.optim.SGD(net.parameters(), lr=0.05), "cross_entropy", batch_metrics=["accuracy"], device="cpu"
    )
    model.fit_generator(
        torch.utils.data.DataLoader(data, batch_size=16),
        torch.utils.data.DataLoader(data, batch_size=48),
        epochs=3,
        progress_options={"coloring": sys.argv[1] == "bar"},
        verbose=True,
        callbacks=[ModelCheckpoint("best.pt", save_best_only=True, verbose=True)],
    )


main()
