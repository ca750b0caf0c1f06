"""Boosting and other tabular learners: one line or row a round."""

import re

from drafters.common import fields, number, pieces


def xgboost(case, text):
    """[round]<tab>train-logloss:0.5<tab>eval-auc:0.7; the last metric of the evaluation set decides early stopping."""
    expect = []
    for piece in pieces(text):
        match = re.match(r"\[(\d+)\]\t(.*)", piece)
        if match:
            values = fields(match[2])
            loss = next(k for k in values if k in ("train-logloss", "validation_0-rmse"))
            val = next(k for k in values if k in ("eval-logloss", "validation_1-rmse"))
            # A named objective metric on the training rows is the loss; a reader may leave it, as the name is free.
            may = {"loss": [values[loss]]}
            expect.append(
                {
                    "step": int(match[1]),
                    "eval_loss": values[val],
                    "kind": "train",
                    "may": may,
                    "extra": {k: v for k, v in values.items() if k != val},
                }
            )
    return expect, None, []


def lightgbm(case, text):
    """[2]<tab>training's auc: 0.9<tab>training's binary_logloss: 0.5<tab>valid_1's ..., then the best iteration again."""
    expect, summary = [], None
    for piece in pieces(text):
        match = re.match(r"\[(\d+)\]\t(training's.*)", piece)
        if match:
            values = {f"{a} {b}": number(v) for a, b, v in re.findall(r"(\w+)'s (\w+): ([\d.]+)", match[2])}
            expect.append(
                {
                    "step": int(match[1]),
                    "eval_loss": values["valid_1 binary_logloss"],
                    "kind": "train",
                    "may": {"loss": [values["training binary_logloss"]]},
                    "extra": values,
                }
            )
    return expect, summary, []


def catboost(case, text):
    """0:<tab>learn: 0.6<tab>test: 0.6<tab>best: 0.6 (0)<tab>total: 1ms<tab>remaining: 3ms; loss names are not printed."""
    expect = []
    for piece in pieces(text):
        match = re.match(r"(\d+):\tlearn: ([\d.]+)\ttest: ([\d.]+)\tbest: ([\d.]+) \((\d+)\)", piece)
        if match:
            expect.append(
                {
                    "step": int(match[1]),
                    "loss": number(match[2]),
                    "eval_loss": number(match[3]),
                    "kind": "train",
                    "extra": {"best": number(match[4])},
                }
            )
    return expect, None, []


def ngboost(case, text):
    """[iter 0] loss=2.1438 val_loss=2.1597 scale=1.0000 norm=1.7855"""
    expect = []
    for piece in pieces(text):
        match = re.match(r"\[iter (\d+)\] (.*)", piece)
        if match:
            values = fields(match[2], "=")
            expect.append(
                {
                    "step": int(match[1]),
                    "loss": values["loss"],
                    "eval_loss": values["val_loss"],
                    "kind": "train",
                    "extra": {"scale": values["scale"], "norm": values["norm"]},
                }
            )
    return expect, None, []


def vowpalwabbit(case, text):
    """A table under a heading of two lines: average loss, loss since the last row, counter; learning rate and averages in prose."""
    expect = []
    for piece in pieces(text):
        match = re.match(r"([\d.]+)\s+([\d.]+)\s+(\d+)\s+[\d.]+\s+-?[\d.]+\s+-?[\d.]+\s+\d+$", piece.rstrip())
        if match:
            expect.append(
                {"kind": "train", "may": {"step": [int(match[3])], "loss": [number(match[2]), number(match[1])]}}
            )
        match = re.match(r"(learning rate|average loss) = ([\d.]+)", piece)
        if match:
            expect.append(
                {"kind": "progress", "may": {"lr" if match[1] == "learning rate" else "loss": [number(match[2])]}}
            )
    return expect, None, []


def sklearn(case, text):
    """MLP: "Iteration 1, loss = 0.7"; gradient boosting: a table of Iter, Train Loss, OOB Improve; SGD: "-- Epoch 1", then a mean."""
    expect, epoch, summary = [], None, None
    for piece in pieces(text):
        header = re.match(r"-- Epoch (\d+)", piece)
        epoch = int(header[1]) if header else epoch
        match = re.match(r"Norm: .*, T: (\d+), Avg\. loss: ([\d.]+), Objective: ([\d.]+)", piece)
        if match:
            may = {"epoch": [epoch], "loss": [number(match[2])], "step": [int(match[1])]}
            expect.append({"kind": "train", "may": may, "extra": {"objective": number(match[3])}})
        match = re.match(r"Total training time: ([\d.]+) seconds", piece)
        if match:
            summary = {"may": {"train_runtime_s": [number(match[1])]}}
        match = re.match(
            r"Iteration (\d+), loss = ([\d.]+)|Validation score: ([\d.]+)|\s+(\d+)\s+([\d.]+)\s+(-?[\d.]+)\s+([\d.]+)s$",
            piece.rstrip(),
        )
        if match and match[1]:
            expect.append({"step": int(match[1]), "loss": number(match[2]), "kind": "train"})
        elif match and match[3]:
            expect.append({"kind": "eval", "extra": {"validation_score": number(match[3])}})
        elif match:
            expect.append(
                {
                    "step": int(match[4]),
                    "loss": number(match[5]),
                    "kind": "train",
                    "extra": {"oob_improve": number(match[6])},
                }
            )
    return expect, summary, []


def tabnet(case, text):
    """epoch 0  | loss: 0.64219 | train_auc: 0.82126 | valid_logloss: 0.60772 |  0:00:00s"""
    expect = []
    for piece in pieces(text):
        match = re.match(r"epoch (\d+)\s+\| (loss: .*?) \|\s+[\d:]+s$", piece)
        if match:
            values = fields(match[2])
            expect.append(
                {
                    "epoch": int(match[1]),
                    "loss": values["loss"],
                    "kind": "train",
                    "may": {"step": [int(match[1])], "eval_loss": [values["valid_logloss"]]},
                    "extra": {k: v for k, v in values.items() if k != "loss"},
                }
            )
    return expect, None, []


def ydf(case, text):
    """Train tree 1/12 train-loss:1.233700 train-accuracy:0.9 valid-loss:1.312601 [total:0.00s iter:0.00s]"""
    expect, summary = [], None
    for piece in pieces(text):
        match = re.match(r"Train tree (\d+)/\d+ (.*) \[total:[\d.]+s iter:([\d.]+)s\]", piece)
        if match:
            values = fields(match[2])
            entry = {"step": int(match[1]), "loss": values["train-loss"], "eval_loss": values["valid-loss"]}
            expect.append({**entry, "kind": "train", "may": {"step_time_s": [number(match[3])]}, "extra": values})
        match = re.match(r"Final model num-trees:\d+ valid-loss:([\d.]+)", piece)
        if match:
            expect.append({"kind": "summary", "may": {"eval_loss": [number(match[1])]}})
        match = re.match(r"Model trained in 0:00:([\d.]+)", piece)
        if match:
            last = [e for e in expect if e["kind"] == "train"][-1]
            summary = {
                "may": {
                    "train_runtime_s": [number(match[1])],
                    "total_steps": [last["step"]],
                    "final_loss": [last["loss"]],
                }
            }
    return expect, summary, []
