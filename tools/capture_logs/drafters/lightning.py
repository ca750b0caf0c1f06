"""Lightning's bars, its checkpoint line and CSV file; GluonTS over it."""

import re

from drafters.common import ANSI, fields, number, pieces

REACHED = re.compile(
    r"Epoch (\d+), global step (\d+): '(\w+)' reached ([\d.]+) \(best [\d.]+\), saving model to '([^']+)'"
)


def lightning_values(text, separator):
    """Return the metrics behind a bar; the epoch's mean is the loss, the step's value is accepted too."""
    values = fields(text, separator)
    out, may = {}, {}
    if "train_loss_epoch" in values:
        out["loss"] = values["train_loss_epoch"]
        if "train_loss_step" in values:
            may["loss"] = [values["train_loss_step"]]
    elif "train_loss_step" in values:
        out["loss"] = values["train_loss_step"]
    if "val_loss" in values:
        out["eval_loss"] = values["val_loss"]
    return out, may


def lightning_bar(epoch, at, pace, text, separator):
    """Return the entry of one refresh; at 0 the metrics are the last epoch's, so nothing is required."""
    values, may = lightning_values(text, separator)
    may["step"] = [at]
    if at == 0:
        for name, value in values.items():
            may.setdefault(name, []).append(value)
        may["epoch"] = [epoch]
        if pace.get("steps_per_s") == 0:
            may["steps_per_s"] = [0]
        return {"kind": "progress", "may": may}
    return {"epoch": epoch, **pace, **values, "kind": "train" if values else "progress", "may": may}


def lightning(case, text):
    """tqdm bars "Epoch 0: 33%|#| 2/6 [..., v_num=0, train_loss_step=2.9]", the checkpoint line glued behind, the CSV file."""
    expect, columns = [], None
    for piece in pieces(text):
        for match in re.finditer(
            r"Epoch (\d+):\s+\d+%\|[^|]*\| (\d+)/6 \[[\d:]+<[\d:?]+,\s*([\d.]+|\?)(it/s|s/it)([^\]]*)", piece
        ):
            pace = {} if match[3] == "?" else {"steps_per_s" if match[4] == "it/s" else "step_time_s": number(match[3])}
            expect.append(lightning_bar(int(match[1]), int(match[2]), pace, match[5].split("Epoch")[0], "="))
        match = REACHED.search(piece)
        if match:
            expect.append(
                {"step": int(match[2]), "epoch": int(match[1]), "eval_loss": number(match[4]), "kind": "checkpoint"}
            )
        if piece.startswith("epoch,step,"):
            columns = piece.split(",")
        elif columns and piece.count(",") == len(columns) - 1:
            row = {k: number(v) for k, v in zip(columns, piece.split(",")) if v}
            loss = row.get("train_loss_epoch", row.get("train_loss_step"))
            expect.append(
                {
                    "step": row["step"],
                    "epoch": row["epoch"],
                    **({"loss": loss} if loss is not None else {"eval_loss": row["val_loss"]}),
                    "kind": "train" if loss is not None else "eval",
                }
            )
    return expect, None, [m[4] for m in REACHED.findall(ANSI.sub("", text))]


def lightning_rich(case, text):
    """Frames "Epoch 0/1 ━━━ 6/6 0:00:00 • 0:00:00 397.81it/s v_num: 0.000" whose metric column wraps over the lines below."""
    flat = ANSI.sub("", text)
    expect = []
    for match in re.finditer(
        r"Epoch (\d+)/\d+ [\s━╸╺]+(\d+)/6 \S+ • \S+ ([\d.]+)it/s(?P<more>.*?)(?=Epoch|`|\Z)|" + REACHED.pattern,
        flat,
        re.S,
    ):
        if match["more"] is None:
            expect.append(
                {"step": int(match[6]), "epoch": int(match[5]), "eval_loss": number(match[8]), "kind": "checkpoint"}
            )
        else:
            expect.append(
                lightning_bar(int(match[1]), int(match[2]), {"steps_per_s": number(match[3])}, match["more"], ":")
            )
    return expect, None, [m[4] for m in REACHED.findall(flat)]


def gluonts(case, text):
    """Lightning's rich bar without a known total ("8/--"), its metric wrapped below; the checkpoint line names train_loss."""
    flat = ANSI.sub("", text)
    expect = []
    for match in re.finditer(
        r"Epoch (\d+)/\d+ [\s━╸╺]+(\d+)/\S+ \S+ • \S+ ([\d.]+)it/s(?P<more>.*?)(?=Epoch|`|INFO|\Z)|" + REACHED.pattern,
        flat,
        re.S,
    ):
        if match["more"] is None:
            expect.append(
                {"step": int(match[6]), "epoch": int(match[5]), "loss": number(match[8]), "kind": "checkpoint"}
            )
        else:
            expect.append(
                {
                    "epoch": int(match[1]),
                    "steps_per_s": number(match[3]),
                    "loss": fields(match["more"])["train_loss"],
                    "kind": "train",
                    "may": {"step": [int(match[2])]},
                }
            )
    return expect, None, [m[4] for m in REACHED.findall(flat)]
