"""pytorch-tabnet: one line an epoch with elapsed time."""

import numpy as np
from pytorch_tabnet.tab_model import TabNetClassifier


def main():
    x = np.random.default_rng(0).normal(size=(200, 6)).astype("float32")
    y = (x.sum(1) > 0).astype(int)
    TabNetClassifier(seed=0, device_name="cpu").fit(
        x[:150],
        y[:150],
        eval_set=[(x[:150], y[:150]), (x[150:], y[150:])],
        eval_name=["train", "valid"],
        eval_metric=["auc", "logloss"],
        max_epochs=4,
        patience=3,
        batch_size=64,
        virtual_batch_size=32,
    )


main()
