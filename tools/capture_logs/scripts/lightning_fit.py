"""Lightning: lightning_fit.py tqdm|rich|none [csv]: the bar, and with csv also print the CSV logger's file."""

import sys

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger

BAR = sys.argv[1]


class Net(L.LightningModule):
    """A regression on eight inputs."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)

    def training_step(self, batch, _):
        x, y = batch
        loss = torch.nn.functional.mse_loss(self.layer(x), y)
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, _):
        x, y = batch
        self.log("val_loss", torch.nn.functional.mse_loss(self.layer(x), y), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def main():
    L.seed_everything(7)
    x = torch.randn(48, 8)
    y = x.sum(1, keepdim=True)
    data = torch.utils.data.TensorDataset(x, y)
    train = torch.utils.data.DataLoader(data, batch_size=8)
    val = torch.utils.data.DataLoader(data, batch_size=24)
    bars = {"tqdm": [TQDMProgressBar(refresh_rate=2)], "rich": [RichProgressBar(refresh_rate=2)], "none": []}[BAR]
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=int(sys.argv[3]) if len(sys.argv) > 3 else 1,
        logger=CSVLogger(".", name="logs"),
        log_every_n_steps=2,
        enable_progress_bar=BAR != "none",
        callbacks=bars + [ModelCheckpoint("ckpt", verbose=True, save_top_k=1, monitor="val_loss")],
    )
    trainer.fit(Net(), train, val)
    if "csv" in sys.argv[2:]:
        print(open(f"{trainer.logger.log_dir}/metrics.csv", encoding="utf-8").read(), end="")


main()
