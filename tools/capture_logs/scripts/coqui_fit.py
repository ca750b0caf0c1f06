"""Coqui's general trainer on a regression: blocks of "| > loss: 1.2  (1.3)", coloured."""

from dataclasses import dataclass

import torch
from trainer import Trainer, TrainerArgs, TrainerConfig, TrainerModel


@dataclass
class Config(TrainerConfig):
    """A short run."""

    optimizer: str = "SGD"
    lr: float = 0.05
    epochs: int = 2
    print_step: int = 4
    batch_size: int = 8
    eval_batch_size: int = 8
    save_step: int = 100
    num_loader_workers: int = 0
    run_eval: bool = True
    dashboard_logger: str = "tensorboard"
    output_path: str = "out"


class Net(TrainerModel):
    """A regression on eight inputs."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)

    def forward(self, x):
        return self.layer(x)

    def train_step(self, batch, criterion):
        out = self(batch["x"])
        return {"model_outputs": out}, {"loss": criterion(out, batch["y"])}

    def eval_step(self, batch, criterion):
        return self.train_step(batch, criterion)

    def get_criterion(self):
        return torch.nn.MSELoss()

    def get_data_loader(self, config, is_eval, samples, verbose, **_):
        rows = [torch.randn(8) for _ in range(16 if is_eval else 64)]
        return torch.utils.data.DataLoader([{"x": r, "y": r.sum(0, keepdim=True)} for r in rows], batch_size=8)


def main():
    torch.manual_seed(0)
    Trainer(TrainerArgs(), Config(), output_path="out", model=Net(), train_samples=[], eval_samples=[]).fit()


main()
