"""Paddle's high-level Model.fit: paddle_fit.py VERBOSE (1 bar, 2 lines)."""

import sys

import numpy as np
import paddle


class Rows(paddle.io.Dataset):
    """Made-up rows of eight numbers with the sign of their sum."""

    def __init__(self):
        self.x = np.random.default_rng(0).normal(size=(96, 8)).astype("float32")

    def __getitem__(self, index):
        return self.x[index], np.array([int(self.x[index].sum() > 0)], "int64")

    def __len__(self):
        return len(self.x)


def main():
    paddle.seed(0)
    paddle.device.set_device("cpu")
    net = paddle.nn.Sequential(paddle.nn.Linear(8, 8), paddle.nn.ReLU(), paddle.nn.Linear(8, 2))
    model = paddle.Model(net)
    model.prepare(
        paddle.optimizer.Adam(0.02, parameters=net.parameters()), paddle.nn.CrossEntropyLoss(), paddle.metric.Accuracy()
    )
    model.fit(
        Rows(), Rows(), batch_size=16, epochs=2, verbose=int(sys.argv[1]), log_freq=2, save_dir="out", num_workers=0
    )


main()
