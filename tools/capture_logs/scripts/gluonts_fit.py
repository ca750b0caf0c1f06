"""GluonTS: SimpleFeedForward (torch, over Lightning) on a made-up series."""

import logging

import numpy as np
import pandas as pd
from gluonts.dataset.pandas import PandasDataset
from gluonts.torch import SimpleFeedForwardEstimator


def main():
    logging.basicConfig(level=logging.INFO)
    index = pd.date_range("2024-01-01", periods=200, freq="h")
    rows = PandasDataset(
        pd.DataFrame({"target": np.sin(np.arange(200) / 5).astype("float32")}, index=index), target="target"
    )
    SimpleFeedForwardEstimator(
        prediction_length=12,
        batch_size=16,
        num_batches_per_epoch=8,
        trainer_kwargs={"max_epochs": 3, "accelerator": "cpu"},
    ).train(rows)


main()
