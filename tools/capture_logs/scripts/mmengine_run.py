"""MMEngine: Runner with train and val loops, its text logger."""

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner


class Net(BaseModel):
    """A classifier on eight inputs."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 2)

    def forward(self, x, y, mode):
        out = self.layer(x)
        return {"loss": torch.nn.functional.cross_entropy(out, y)} if mode == "loss" else (out, y)


class Right(BaseMetric):
    """Share of right answers."""

    def process(self, _, outputs):
        guess, truth = outputs
        self.results.append({"right": (guess.argmax(1) == truth).sum().item(), "all": len(truth)})

    def compute_metrics(self, results):
        return {"accuracy": 100 * sum(r["right"] for r in results) / sum(r["all"] for r in results)}


def main():
    torch.manual_seed(0)
    x = torch.randn(96, 8)
    rows = list(zip(x, (x.sum(1) > 0).long()))
    loader = {
        "batch_size": 8,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "dataset": rows,
        "collate_fn": {"type": "default_collate"},
    }
    Runner(
        model=Net(),
        work_dir="work",
        train_dataloader=loader,
        train_cfg={"by_epoch": True, "max_epochs": 2, "val_interval": 1},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.05}},
        val_dataloader=dict(loader),
        val_cfg={},
        val_evaluator={"type": Right},
        default_hooks={"logger": {"type": "LoggerHook", "interval": 4}},
        randomness={"seed": 0},
    ).train()


main()
