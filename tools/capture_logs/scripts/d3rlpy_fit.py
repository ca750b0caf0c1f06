"""d3rlpy: offline RL on made-up episodes; structlog lines and tqdm bars."""

import d3rlpy
import numpy as np


def main():
    source = np.random.default_rng(0)
    ends = np.zeros(200)
    ends[19::20] = 1
    data = d3rlpy.dataset.MDPDataset(
        source.normal(size=(200, 4)).astype("float32"),
        source.integers(0, 2, size=(200, 1)),
        source.normal(size=200),
        ends,
    )
    d3rlpy.algos.DQNConfig(batch_size=16).create(device="cpu:0").fit(data, n_steps=40, n_steps_per_epoch=20)


main()
