"""SpeechBrain: Brain.fit with its bar and FileTrainLogger lines."""

import logging
import sys
from unittest import mock

try:
    import torchaudio  # noqa: F401
except (ImportError, OSError):  # none built for this torch; numbers need no audio
    sys.modules["torchaudio"] = mock.MagicMock(__version__="2.9.0")
    sys.modules["torchaudio"].list_audio_backends.return_value = ["none"]

import speechbrain as sb  # noqa: E402
import torch
from speechbrain.utils.train_logger import FileTrainLogger


class Net(sb.Brain):
    """A regression on eight inputs."""

    def compute_forward(self, batch, stage):
        return self.modules.model(batch[0])

    def compute_objectives(self, predictions, batch, stage):
        return torch.nn.functional.mse_loss(predictions, batch[0].sum(-1, keepdim=True))

    def on_stage_end(self, stage, stage_loss, epoch):
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
        else:
            self.hparams.train_logger.log_stats(
                {"epoch": epoch, "lr": 0.05}, {"loss": self.train_loss}, {"loss": stage_loss}
            )


def main():
    logging.basicConfig(level=logging.INFO, format="%(name)s - %(message)s")
    torch.manual_seed(0)
    rows = [torch.randn(8) for _ in range(64)]
    model = torch.nn.Linear(8, 1)
    net = Net(
        {"model": model},
        lambda p: torch.optim.SGD(p, 0.05),
        hparams={"train_logger": FileTrainLogger("log.txt")},
        run_opts={"device": "cpu"},
    )
    data = [[torch.stack(rows[i : i + 8])] for i in range(0, 64, 8)]
    net.fit(range(1, 4), data, data[:2])


main()
