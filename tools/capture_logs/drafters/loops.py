"""General training loops: bars, tables and lines an epoch or an iteration."""

import re

from drafters.common import ANSI, SECONDS, fields, number, pieces, saves


def keras(case, text):
    """Bars "4/5 ━━━ 0s 12ms/step - accuracy: 0.9 - loss: 0.2" redrawn by backspace or return; verbose 2 one line an epoch."""
    expect, epoch = [], None
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
    for piece in re.split(r"\r\n|\n|\r|\x08+", ANSI.sub("", text)):
        header = re.match(r"Epoch (\d+)/\d+", piece)
        if header:
            epoch = int(header[1])
        told = re.match(r"Epoch (\d+): val_loss improved from \S+ to ([\d.]+), saving", piece)
        if told:
            expect.append({"epoch": int(told[1]), "eval_loss": number(told[2]), "kind": "checkpoint"})
        told = re.match(r"Epoch (\d+): ReduceLROnPlateau reducing learning rate to ([\d.]+)\.", piece)
        if told:
            expect.append({"kind": "progress", "may": {"epoch": [int(told[1])], "lr": [number(told[2])]}})
        match = re.match(r"\s*(\d+)/(\d+) (?:[━\s]+\d+s|- \d+s -) (\d+)(us|ms|s)/step - (.*)", piece)
        if not match:
            continue
        values, pace = fields(match[5]), round(number(match[3]) * units[match[4]], 9)
        if int(match[2]) == case["eval_steps"]:  # evaluate() prints as fit() does: only the missing header tells
            expect.append(
                {
                    "kind": "eval",
                    "may": {
                        "eval_loss": [values["loss"]],
                        "loss": [values["loss"]],
                        "step": [int(match[1])],
                        "step_time_s": [pace],
                        "epoch": [epoch],
                    },
                }
            )
            continue
        names = {"loss": "loss", "val_loss": "eval_loss", "learning_rate": "lr"}
        expect.append(
            {
                "epoch": epoch,
                "step_time_s": pace,
                **{new: values[old] for old, new in names.items() if old in values},
                "kind": "train",
                "may": {"step": [int(match[1])]},
                "extra": {k: v for k, v in values.items() if k not in names},
            }
        )
    return expect, None, saves(case, text)


def paddle(case, text):
    """step 2/6 [===>...] - loss: 0.6540 - acc: 0.5625 - ETA: 0s - 56ms/step; the same lines between "Eval begin" and "Eval samples"."""
    expect, epoch, is_eval = [], None, False
    for piece in re.split(r"\r\n|\n|\r|\x08+", ANSI.sub("", text)):
        header = re.match(r"Epoch (\d+)/\d+", piece)
        epoch = int(header[1]) if header else epoch
        is_eval = piece.startswith("Eval begin") or (is_eval and not piece.startswith("Eval samples"))
        match = re.match(
            r"step (\d+)/\d+ (?:\[[=>.]+\] )?- loss: ([\d.]+) - acc: ([\d.]+) (?:- ETA: \S+ )?- (\d+)(us|ms|s)/step",
            piece,
        )
        if match and is_eval:
            expect.append(
                {
                    "eval_loss": number(match[2]),
                    "kind": "eval",
                    "may": {
                        "step": [int(match[1])],
                        "epoch": [epoch],
                        "step_time_s": [round(number(match[4]) * SECONDS[match[5]], 9)],
                    },
                    "extra": {"acc": number(match[3])},
                }
            )
        elif match:
            expect.append(
                {
                    "epoch": epoch,
                    "loss": number(match[2]),
                    "step_time_s": round(number(match[4]) * SECONDS[match[5]], 9),
                    "kind": "train",
                    "may": {"step": [int(match[1])]},
                    "extra": {"acc": number(match[3])},
                }
            )
    return expect, None, re.findall(r"save checkpoint at (\S+)", text)


def skorch(case, text):
    """The table of PrintLog: "epoch train_loss valid_acc valid_loss cp dur", best values coloured."""
    expect, columns = [], None
    for piece in pieces(text):
        words = piece.split()
        if words[:1] == ["epoch"]:
            columns = words
        elif columns and words and re.fullmatch(r"\d+", words[0]) and len(words) >= len(columns) - 1:
            row = dict(zip([c for c in columns if c != "cp"], [w for w in words if w != "+"]))
            expect.append(
                {
                    "epoch": int(row["epoch"]),
                    "loss": number(row["train_loss"]),
                    "eval_loss": number(row["valid_loss"]),
                    "lr": number(row["lr"]),
                    "kind": "train",
                    "may": {"step": [int(row["epoch"])]},
                    "extra": {k: number(v) for k, v in row.items() if k in ("valid_acc", "roc_auc", "dur")},
                }
            )
    return expect, None, []


def fastai(case, text):
    """The table of epochs: "epoch train_loss valid_loss accuracy time"; bars "Epoch 1/3 : |#-| 33.33% [2/6 00:00<00:00... 0.6949]"
    of training and validation whose number has no name (the smoothed training loss)."""
    expect, columns = [], None
    for piece in pieces(text):
        words = piece.split()
        if words[:2] == ["epoch", "train_loss"]:
            columns = words
        elif columns and len(words) == len(columns) and re.fullmatch(r"\d+", words[0]):
            row = dict(zip(columns, words))
            expect.append(
                {
                    "epoch": int(row["epoch"]),
                    "loss": number(row["train_loss"]),
                    "eval_loss": number(row["valid_loss"]),
                    "kind": "train",
                    "may": {"step": [int(row["epoch"])]},
                    "extra": {"accuracy": number(row["accuracy"])},
                }
            )
        bar = re.match(r"Epoch (\d+)/\d+ : \|[^|]*\| [\d.]+% \[(\d+)/\d+ [\d:]+<[\d:?]+(?:\.\.\. ([\d.]+))?\]", piece)
        if bar:
            expect.append(
                {
                    "kind": "progress",
                    "may": {
                        "epoch": [int(bar[1])],
                        "step": [int(bar[2])],
                        **({"loss": [number(bar[3])]} if bar[3] else {}),
                    },
                }
            )
        better = re.match(r"Better model found at epoch (\d+) with valid_loss value: ([\d.]+)\.", piece)
        if better:
            expect.append({"kind": "eval", "may": {"epoch": [int(better[1])], "eval_loss": [number(better[2])]}})
    return expect, None, []


def ignite(case, text):
    """Logger lines "Epoch[1] Iteration[4/8] Loss: 4.50" (the counter runs over all epochs, its total does not) and the bar."""
    expect = []
    for piece in pieces(text):
        for match in re.finditer(
            r"Epoch\[(\d+)\] Iteration\[(\d+)/\d+\] Loss: ([\d.]+)|"
            r"Validation Results - Epoch: (\d+) Avg loss: ([\d.]+)|"
            r"Epoch\[(\d+)\] Complete\. Time taken: 00:00:([\d.]+)|"
            r"(?:Epoch \[(\d+)/\d+\]: )?\[(\d+)/8\]\s+\d+%\|[^,\[|]*(?:, loss=([\d.]+))? \[",
            piece,
        ):
            if match[1]:
                expect.append(
                    {
                        "epoch": int(match[1]),
                        "loss": number(match[3]),
                        "kind": "train",
                        "may": {"step": [int(match[2])]},
                    }
                )
            elif match[4]:
                expect.append({"epoch": int(match[4]), "eval_loss": number(match[5]), "kind": "eval"})
            elif match[6]:
                expect.append(
                    {"kind": "summary", "may": {"epoch": [int(match[6])]}, "extra": {"epoch_time_s": number(match[7])}}
                )
            elif match[10]:
                expect.append(
                    {
                        "epoch": int(match[8]),
                        "loss": number(match[10]),
                        "kind": "train",
                        "may": {"step": [int(match[9])]},
                    }
                )
            else:
                expect.append(
                    {"kind": "progress", "may": {"step": [int(match[9])], "epoch": [int(match[8])] if match[8] else []}}
                )
    return expect, None, []


def monai(case, text):
    """Epoch: 1/2, Iter: 1/4 -- train_loss: 1.8108; learning rate and checkpoint in lines of their own."""
    expect = []
    for piece in pieces(text):
        match = re.search(
            r"Epoch: (\d+)/\d+, Iter: (\d+)/\d+ -- train_loss: ([\d.]+)|Current learning rate: ([\d.]+)|"
            r"Epoch\[(\d+)\] Complete\. Time taken: 00:00:([\d.]+)|Saved checkpoint at epoch: (\d+)",
            piece,
        )
        if match and match[1]:
            expect.append(
                {"epoch": int(match[1]), "loss": number(match[3]), "kind": "train", "may": {"step": [int(match[2])]}}
            )
        elif match and match[4]:
            expect.append({"kind": "progress", "may": {"lr": [number(match[4])]}})
        elif match and match[5]:
            expect.append(
                {"kind": "summary", "may": {"epoch": [int(match[5])]}, "extra": {"epoch_time_s": number(match[6])}}
            )
        elif match:
            expect.append({"kind": "checkpoint", "may": {"epoch": [int(match[7])]}})
    return expect, None, [f"epoch {n}" for n in re.findall(r"Saved checkpoint at epoch: (\d+)", text)]


def mmengine(case, text):
    """Epoch(train) [1][ 4/12]  lr: 5.0000e-02  eta: 0:00:00  time: 0.0020  data_time: 0.0007  loss: 0.7491"""
    expect = []
    for piece in pieces(text):
        match = re.search(r"Epoch\((train|val)\) \[(\d+)\]\[\s*(\d+)/\d+\]\s+(.*)", piece)
        if not match:
            continue
        values = fields(re.sub(r"eta: \S+", "", match[4]))
        if match[1] == "train":
            expect.append(
                {
                    "epoch": int(match[2]),
                    "lr": values["lr"],
                    "step_time_s": values["time"],
                    "loss": values["loss"],
                    "kind": "train",
                    "may": {"step": [int(match[3])]},
                    "extra": {"data_time_s": values["data_time"]},
                }
            )
        else:
            expect.append(
                {
                    "kind": "eval",
                    "may": {"epoch": [int(match[2])], "step": [int(match[3])], "step_time_s": [values["time"]]},
                    "extra": {k: v for k, v in values.items() if k == "accuracy"},
                }
            )
    return expect, None, [f"epoch {n}" for n in re.findall(r"Saving checkpoint at (\d+) epochs", text)]


def jax_loop(case, text):
    """A bar whose loss is refreshed before its counter, and absl lines glued behind it."""
    expect = []
    for piece in pieces(text):
        for match in re.finditer(
            r"\| (\d+)/12 \[[\d:]+<[\d:?]+,\s*([\d.]+|\?)(it/s|s/it), loss=([\d.]+)\]|"
            r"\] step = (\d+), loss = ([\d.]+), grad_norm = ([\d.]+), steps_per_sec = ([\d.]+)",
            piece,
        ):
            if match[1]:
                pace = (
                    {}
                    if match[2] == "?"
                    else {"steps_per_s" if match[3] == "it/s" else "step_time_s": number(match[2])}
                )
                expect.append({"step": int(match[1]), **pace, "loss": number(match[4]), "kind": "train"})
            else:
                expect.append(
                    {
                        "step": int(match[5]),
                        "loss": number(match[6]),
                        "grad_norm": number(match[7]),
                        "steps_per_s": number(match[8]),
                        "kind": "train",
                    }
                )
    return expect, None, []


def speechbrain(case, text):
    """A bar an epoch whose train_loss runs ahead of its counter, and "epoch: 1, lr: 5.00e-02 - train loss: 8.70 - valid loss: 13.49"."""
    expect = []
    for piece in pieces(text):
        for match in re.finditer(
            r"\| (\d+)/8 \[[\d:]+<[\d:?]+,\s*([\d.]+|\?)(it/s|s/it)(?:, train_loss=([\d.]+))?\]|"
            r"epoch: (\d+), lr: (\S+) - train loss: (\S+) - valid loss: (\S+)",
            piece,
        ):
            if match[5]:
                expect.append(
                    {
                        "epoch": int(match[5]),
                        "lr": number(match[6]),
                        "loss": number(match[7]),
                        "eval_loss": number(match[8]),
                        "kind": "train",
                    }
                )
            elif match[4]:
                pace = (
                    {}
                    if match[2] == "?"
                    else {"steps_per_s" if match[3] == "it/s" else "step_time_s": number(match[2])}
                )
                expect.append({"loss": number(match[4]), **pace, "kind": "train", "may": {"step": [int(match[1])]}})
    return expect, None, []


LOOP = re.compile(r"step (\d+)/8 \| loss ([\d.]+) \| grad norm ([\d.]+) \| lr (\S+) \| ([\d.]+) ms/step")


def ranks(case, text):
    """The plain loop of ddp_loop.py: two ranks, "[rank 0]" or torchrun's own "[default0]:" before it."""
    expect = []
    for piece in pieces(text):
        at = 0
        for match in LOOP.finditer(piece):
            rank = re.findall(r"\[(?:rank ?|default)(\d+)\]", piece[at : match.start()])
            at = match.end()
            expect.append(
                {
                    "step": int(match[1]),
                    "loss": number(match[2]),
                    "grad_norm": number(match[3]),
                    "lr": number(match[4]),
                    "step_time_s": round(number(match[5]) / 1000, 8),
                    **({"rank": int(rank[-1])} if rank else {}),
                    "kind": "train",
                }
            )
    return expect, None, saves(case, text)


def composer(case, text):
    """Bars "train Epoch 0: 17%|#| 1/6 [..., 57.23ba/s, loss/train/total=0.6683]", or console blocks "[epoch=1][batch=3/6]:".

    The bar is cut at the terminal's edge ("loss/train/total=0."): a value without the closing bracket is not stated.
    """
    expect, block = [], None
    for piece in pieces(text):
        for match in re.finditer(
            r"(train|eval)\s+Epoch\s+(\d+):\s+\d+%\|[^|]*\| (\d+)/\d+ \[[\d:]+<[\d:?]+, ([\d.]+|\?)ba/s"
            r"(?:, (?:loss/train/total|metrics/eval/CrossEntropy)=(\d+\.\d+)(\]?))?",
            piece,
        ):
            epoch, at = int(match[2]), int(match[3])
            pace = {} if match[4] == "?" else {"steps_per_s": number(match[4])}
            if match[1] == "eval":
                may = {"epoch": [epoch], "step": [at], **{k: [v] for k, v in pace.items()}}
                if match[5]:
                    may["eval_loss"] = [number(match[5])]
                expect.append({"kind": "eval", "may": may})
            elif match[6]:
                expect.append(
                    {"epoch": epoch, **pace, "loss": number(match[5]), "kind": "train", "may": {"step": [at]}}
                )
            elif pace:
                expect.append({"epoch": epoch, **pace, "kind": "progress", "may": {"step": [at]}})
            else:
                expect.append({"kind": "progress", "may": {"epoch": [epoch], "step": [at]}})
        header = re.match(r"\[epoch=(\d+)\]\[batch=(\d+)/\d+\]:|\[Eval batch=(\d+)/\d+\] Eval on eval data:$", piece)
        if header and header[1]:  # the batch is the epoch's; "time/batch" below counts all from 0
            block = {"epoch": int(header[1]), "kind": "train", "may": {"step": [int(header[2])]}, "extra": {}}
        elif header:
            block = {"kind": "eval", "may": {"step": [int(header[3])]}, "extra": {}}
        if header:
            expect.append(block)
        row = re.match(r"\s+(?:Train|Eval) (\S.*?): (-?[\d.]+(?:e[-+]?\d+)?)$", piece)
        if row and block is not None:
            value = number(row[2])
            block["extra"][row[1]] = value
            if row[1] == "loss/train/total":
                block["loss"] = value
            elif row[1] == "time/batch":
                block["may"]["step"].append(value)
            elif row[1] == "metrics/eval/CrossEntropy":
                block["may"]["eval_loss"] = [value]
    return expect, None, []


def poutyne(case, text):
    """Epoch: 1/3 Step: 1/6  16.67% |##    |ETA: 0.08s loss: 0.838201 acc: 56.250000; at the end "Train steps: 6 Val steps: 2"."""
    expect = []
    for piece in pieces(text):
        match = re.match(r"Epoch: (\d+)/\d+ (?:Step: (\d+)/|Train steps: (\d+))(.*)", piece)
        if match:
            values = fields(match[4])
            entry = {"epoch": int(match[1])}
            for old, new in (("loss", "loss"), ("val_loss", "eval_loss")):
                if old in values:
                    entry[new] = values[old]
            extra = {k: v for k, v in values.items() if k in ("acc", "val_acc")}
            kind = "train" if "loss" in entry else "eval"
            expect.append({**entry, "kind": kind, "may": {"step": [int(match[2] or match[3])]}, "extra": extra})
        match = re.match(r"Epoch (\d+): val_loss improved from \S+ to ([\d.]+), saving file to (\S+)", piece)
        if match:
            expect.append({"epoch": int(match[1]), "eval_loss": number(match[2]), "kind": "checkpoint"})
    return expect, None, re.findall(r"saving file to (\S+)", text)


def tf_keras(case, text):
    """Keras 2: "5/5 [====] - 2s 128ms/step - loss: 0.78", "1/5 [=>..] - ETA: 5s - loss: 0.9"; a line: "5/5 - 2s - loss: 0.78 ... 400ms/step"."""
    expect, epoch = [], None
    for piece in re.split(r"\r\n|\n|\r|\x08+", text):
        header = re.match(r"Epoch (\d+)/\d+", piece)
        epoch = int(header[1]) if header else epoch
        told = re.match(r"Epoch (\d+): val_loss improved from \S+ to ([\d.]+), saving", piece)
        if told:
            expect.append({"epoch": int(told[1]), "eval_loss": number(told[2]), "kind": "checkpoint"})
        match = re.match(r"(\d+)/\d+ (?:\[[=>.]+\] )?- (?:ETA: )?\d+s (.*)", piece)
        if match:
            values = fields(match[2])
            entry = {"epoch": epoch, "loss": values["loss"]}
            if "val_loss" in values:
                entry["eval_loss"] = values["val_loss"]
            pace = re.search(r"(\d+)(us|ms|s)/step", match[2])
            if pace:
                entry["step_time_s"] = round(number(pace[1]) * SECONDS[pace[2]], 9)
            extra = {k: v for k, v in values.items() if "accuracy" in k}
            expect.append({**entry, "kind": "train", "may": {"step": [int(match[1])]}, "extra": extra})
    return expect, None, saves(case, text)


def clu(case, text):
    """CLU's writer: "[10] learning_rate=0.1, train_loss=0.29", a line a write, so several a step; notes of the progress."""
    expect = []
    for piece in pieces(text):
        match = re.search(r"logging_writer\.py:\d+\] \[(\d+)\] (.*)", piece)
        if match:
            values = fields(match[2], "=")
            names = {
                "steps_per_sec": "steps_per_s",
                "learning_rate": "lr",
                "train_loss": "loss",
                "eval_loss": "eval_loss",
            }
            entry = {new: values[old] for old, new in names.items() if old in values}
            step = int(match[1])
            if not entry:
                expect.append({"kind": "progress", "may": {"step": [step]}, "extra": values})
                continue
            kind = "eval" if "eval_loss" in entry else "train" if "loss" in entry else "progress"
            expect.append({"step": step, **entry, "kind": kind, "extra": values})
        match = re.search(r"work unit notes: ([\d.]+) steps/s, [\d.]+% \((\d+)/\d+\)", piece)
        if match:
            expect.append({"kind": "progress", "may": {"step": [int(match[2])], "steps_per_s": [number(match[1])]}})
    return expect, None, []


def pykeen(case, text):
    """Training epochs on cpu: 25%|##| 1/4 [..., 2.95epoch/s, loss=1.25, prev_loss=nan]: the rate is of epochs, so no step's."""
    expect = []
    pattern = r"Training epochs on cpu:\s+\d+%\|[^|]*\| (\d+)/\d+ \[[\d:]+<[\d:?]+,\s*(?:[\d.]+|\?)epoch/s(?:, loss=([\d.]+), prev_loss=\S+)?\]"
    for piece in pieces(text):
        for match in re.finditer(pattern, piece):
            may = {"epoch": [int(match[1])], "step": [int(match[1])]}
            if match[2]:
                expect.append({"loss": number(match[2]), "kind": "train", "may": may})
            else:
                expect.append({"kind": "progress", "may": may})
    return expect, None, []


def widedeep(case, text):
    """epoch 1: 0%| | 0/4 [00:00<?, ?it/s, loss=0.746, metrics={'acc': 0.5}], then "valid: ..." in the same form."""
    expect = []
    pattern = r"(?:epoch (\d+)|valid):\s+\d+%\|[^|]*\| (\d+)/\d+ \[[\d:]+<[\d:?]+,\s*([\d.]+|\?)(it/s|s/it)(?:, loss=([\d.]+), metrics=\{'acc': ([\d.]+)\})?\]"
    for piece in pieces(text):
        for match in re.finditer(pattern, piece):
            may = {"step": [int(match[2])]}
            pace = {} if match[3] == "?" else {"steps_per_s" if match[4] == "it/s" else "step_time_s": number(match[3])}
            if not match[5]:
                expect.append({"kind": "progress", "may": {**may, "epoch": [int(match[1])] if match[1] else []}})
            elif match[1]:
                entry = {"epoch": int(match[1]), "loss": number(match[5]), **pace}
                expect.append({**entry, "kind": "train", "may": may, "extra": {"acc": number(match[6])}})
            else:
                may.update({name: [value] for name, value in pace.items()})
                entry = {"eval_loss": number(match[5]), "kind": "eval", "may": may}
                expect.append({**entry, "extra": {"acc": number(match[6])}})
    return expect, None, []
