"""pytorch-ignite: ignite_loop.py [bar]: its progress bar and engine logger, or printed epoch lines."""

import logging
import sys

import torch
from ignite.contrib.handlers import ProgressBar
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import Checkpoint, DiskSaver
from ignite.metrics import Loss, RunningAverage
from ignite.utils import setup_logger


def main():
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    data = torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True))
    train = torch.utils.data.DataLoader(data, batch_size=8)
    net = torch.nn.Linear(4, 1)
    loss = torch.nn.MSELoss()
    trainer = create_supervised_trainer(net, torch.optim.SGD(net.parameters(), lr=0.05), loss)
    trainer.logger = setup_logger("trainer")
    evaluator = create_supervised_evaluator(net, metrics={"mse": Loss(loss)})
    evaluator.logger = setup_logger("evaluator")
    RunningAverage(output_transform=lambda out: out).attach(trainer, "loss")
    if "bar" in sys.argv:
        ProgressBar().attach(trainer, ["loss"])

    @trainer.on(Events.ITERATION_COMPLETED(every=4))
    def tell(engine):
        if "bar" not in sys.argv:
            trainer.logger.info(
                f"Epoch[{engine.state.epoch}] Iteration[{engine.state.iteration}/{len(train)}] Loss: {engine.state.output:.2f}"
            )

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        evaluator.run(train)
        evaluator.logger.info(
            f"Validation Results - Epoch: {engine.state.epoch} Avg loss: {evaluator.state.metrics['mse']:.4f}"
        )

    keep = Checkpoint({"model": net}, DiskSaver("ckpt", create_dir=True), n_saved=1)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, keep)
    logging.getLogger("ignite.handlers.checkpoint").setLevel(logging.INFO)
    trainer.run(train, max_epochs=2)


main()
