"""Drafts what a captured log states, one function a format; draft() picks it by the case's "drafter" or framework.

Each returns (expect, summary, checkpoints) as the corpus format has them. The patterns are exact for one trainer's
release: they are meant to fail loudly on another, not to be general.
"""

import ast
import re

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
BAR = re.compile(r"(?:(?P<what>[^|\r\n]*?):?\s+|^)(?P<percent>\d+)%\|[^|]*\|\s*(?P<at>\d+)/(?P<all>\d+) \[[\d:]+<[\d:?]+,\s*(?P<rate>[\d.]+|\?)(?P<unit>it/s|s/it)(?:, (?P<more>[^\]]*))?\]")
DICT = re.compile(r"\{'[^{}]*\}")


def pieces(text):
    """Return the pieces between line ends and carriage returns, without escape sequences."""
    return re.split(r"\r\n|\n|\r", ANSI.sub("", text))


def number(value):
    """Return int or float of a printed number; nan and the infinities as strings, as JSON has none."""
    if isinstance(value, str):
        value = value.replace(",", "")
        value = int(value) if re.fullmatch(r"-?\d+", value) else float(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def rate(match):
    """Return the rate of a bar as an entry's field; nothing for the placeholder "?it/s"."""
    if match["rate"] == "?":
        return {}
    return {"steps_per_s" if match["unit"] == "it/s" else "step_time_s": number(match["rate"])}


def python_dict(text):
    """Return a printed dict; bare nan and inf become strings."""
    return ast.literal_eval(re.sub(r"(?<=: )(-?)(nan|inf)\b", r"'\1\2'", text))


HF_FIELDS = {"loss": "loss", "grad_norm": "grad_norm", "learning_rate": "lr", "epoch": "epoch", "step_time": "step_time_s",
             "train_tokens_per_second": "tokens_per_s", "tokens/train_per_sec_per_gpu": "tokens_per_s",
             "memory(GiB)": "mem_gib", "train_speed(s/it)": "step_time_s"}
HF_SUMMARY = {"train_runtime": "train_runtime_s", "train_samples_per_second": "train_samples_per_s",
              "train_steps_per_second": "train_steps_per_s"}


def hf(case, text):
    """Trainers on top of the Hugging Face Trainer: bars of case["steps"], dicts with quoted numbers."""
    expect, summary, checkpoints, told = [], {}, [], 0
    # A nested bar (evaluation) moves the cursor up again after each draw; its total may be the training's.
    for piece in pieces(re.sub(r"\]\x1b\[A", "]<nested>", text)):
        rank = re.match(r"\[(?:default|rank)(\d+)\]:", piece)
        own = {"rank": int(rank[1])} if rank else {}
        found = [(m.start(), "bar", m) for m in BAR.finditer(piece)] + [(m.start(), "dict", m) for m in DICT.finditer(piece)]
        for _, kind, match in sorted(found, key=lambda f: f[0]):
            if kind == "bar":
                if int(match["all"]) == case["steps"] and rate(match) and not piece[match.end():].startswith("<nested>"):
                    expect.append({"step": int(match["at"]), **rate(match), **own, "kind": "progress"})
                continue
            values = {k: number(v) if k != "epoch" or v != "" else v for k, v in python_dict(match[0]).items()
                      if isinstance(v, (int, float)) or re.fullmatch(r"[-+]?(\d[\d.]*(e[-+]?\d+)?|nan|inf)", str(v))}
            if "train_samples_per_second" in values:
                summary = {new: values[old] for old, new in HF_SUMMARY.items() if old in values}
                summary["extra"] = {"train_loss_mean": values["train_loss"]} if "train_loss" in values else {}
                continue
            if not any(k in HF_FIELDS or k.startswith("eval_") for k in values):
                continue  # some other dictionary
            is_eval = any(k.startswith("eval_") for k in values)
            entry = {}
            if is_eval:
                entry = {k: values[k] for k in ("epoch", "eval_loss") if k in values}
                may = {new: [values[old]] for old, new in (("eval_samples_per_second", "samples_per_s"), ("eval_steps_per_second", "steps_per_s"),
                                                          ("eval_embedding_samples_per_second", "samples_per_s"),
                                                          ("eval_embedding_steps_per_second", "steps_per_s"),
                                                          ("eval_embedding_loss", "eval_loss")) if old in values}
            else:
                entry = {new: values[old] for old, new in HF_FIELDS.items() if old in values}
                may = {"loss": [values["embedding_loss"]]} if "embedding_loss" in values else {}
            if not is_eval and "step" not in values and "every" in case:
                told += 1  # the step that the trainer logged; the bar before the line may be steps ahead of it
                entry["step_ctx"] = told * case["every"]
            if "tokens/train_per_sec_per_gpu" in values:
                entry["scope"] = "per_device"
            if "memory/max_active (GiB)" in values:
                may["mem_gib"] = [values["memory/max_active (GiB)"]]
            rest = {k: v for k, v in values.items() if k not in HF_FIELDS and k not in ("eval_loss", "eval_samples_per_second", "eval_steps_per_second")}
            expect.append({**entry, **own, "kind": "eval" if is_eval else "train", **({"may": may} if may else {}), **({"extra": rest} if rest else {})})
        saved = re.search(r"Saving model checkpoint to (\S+)|Model successfully saved to (\S+)", piece)
        if saved:
            checkpoints.append(saved[1] or saved[2])
    for name, body in re.findall(r"\*{5} (train|eval) metrics \*{5}\r?\n((?:  \w+\s+= +\S+\r?\n?)+)", text):
        table = dict(re.findall(r"(\w+)\s+= +(\S+)", body))
        if name == "eval":
            expect.append({"epoch": number(table["epoch"]), "eval_loss": number(table["eval_loss"]), "kind": "eval",
                           "may": {"samples_per_s": [number(table["eval_samples_per_second"])], "steps_per_s": [number(table["eval_steps_per_second"])]}})
        else:  # the summary once more, rounded
            summary["may"] = {new: [number(table[old])] for old, new in HF_SUMMARY.items() if ":" not in table[old]}
            summary["may"]["train_runtime_s"] = [number(table["train_runtime"].split(":")[-1])]
    finish(expect, summary)
    if summary and any(e["kind"] == "progress" and e["step"] == case["steps"] for e in expect):
        summary["total_steps"] = case["steps"]
    return expect, summary or None, checkpoints


def finish(expect, summary):
    """Put the last training loss into a summary that the log prints."""
    if summary:
        losses = [e["loss"] for e in expect if e["kind"] == "train" and "loss" in e]
        named = [e["may"]["loss"][0] for e in expect if e["kind"] == "train" and "loss" in e.get("may", {})]
        if losses:
            summary["final_loss"] = losses[-1]
        elif named:
            summary.setdefault("may", {})["final_loss"] = [named[-1]]


def lines_by(pattern, build):
    """Return a drafter that makes one entry of each line that the pattern matches."""
    compiled = re.compile(pattern)

    def drafter(case, text):
        expect = [build(m) for m in (compiled.search(p) for p in pieces(text)) if m]
        return expect, None, saves(case, text)

    return drafter


def saves(case, text):
    """Return the paths that the case's "saved" pattern finds, in order."""
    return re.findall(case["saved"], ANSI.sub("", text)) if "saved" in case else []


def fields(text, separator=":"):
    """Return the name-number pairs of "name: 0.1 name2: 3"."""
    return {k: number(v) for k, v in re.findall(rf"([\w/@-]+)\s*{separator}\s*(-?[\d.]+(?:e[-+]?\d+)?|nan|inf)(?![\w.])", text)}


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
            expect.append({"step": int(match[1]), "eval_loss": values[val], "kind": "train", "may": may,
                           "extra": {k: v for k, v in values.items() if k != val}})
    return expect, None, []


def lightgbm(case, text):
    """[2]<tab>training's auc: 0.9<tab>training's binary_logloss: 0.5<tab>valid_1's ..., then the best iteration again."""
    expect, summary = [], None
    for piece in pieces(text):
        match = re.match(r"\[(\d+)\]\t(training's.*)", piece)
        if match:
            values = {f"{a} {b}": number(v) for a, b, v in re.findall(r"(\w+)'s (\w+): ([\d.]+)", match[2])}
            expect.append({"step": int(match[1]), "eval_loss": values["valid_1 binary_logloss"], "kind": "train",
                           "may": {"loss": [values["training binary_logloss"]]}, "extra": values})
    return expect, summary, []


def catboost(case, text):
    """0:<tab>learn: 0.6<tab>test: 0.6<tab>best: 0.6 (0)<tab>total: 1ms<tab>remaining: 3ms; loss names are not printed."""
    expect = []
    for piece in pieces(text):
        match = re.match(r"(\d+):\tlearn: ([\d.]+)\ttest: ([\d.]+)\tbest: ([\d.]+) \((\d+)\)", piece)
        if match:
            expect.append({"step": int(match[1]), "loss": number(match[2]), "eval_loss": number(match[3]), "kind": "train",
                           "extra": {"best": number(match[4])}})
    return expect, None, []


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
            expect.append({"kind": "eval", "may": {"eval_loss": [values["loss"]], "loss": [values["loss"]], "step": [int(match[1])],
                                                   "step_time_s": [pace], "epoch": [epoch]}})
            continue
        names = {"loss": "loss", "val_loss": "eval_loss", "learning_rate": "lr"}
        expect.append({"epoch": epoch, "step_time_s": pace, **{new: values[old] for old, new in names.items() if old in values},
                       "kind": "train", "may": {"step": [int(match[1])]}, "extra": {k: v for k, v in values.items() if k not in names}})
    return expect, None, saves(case, text)


def skorch(case, text):
    """The table of PrintLog: "epoch train_loss valid_acc valid_loss cp dur", best values coloured."""
    expect, columns = [], None
    for piece in pieces(text):
        words = piece.split()
        if words[:1] == ["epoch"]:
            columns = words
        elif columns and words and re.fullmatch(r"\d+", words[0]) and len(words) >= len(columns) - 1:
            row = dict(zip([c for c in columns if c != "cp"], [w for w in words if w != "+"]))
            expect.append({"epoch": int(row["epoch"]), "loss": number(row["train_loss"]), "eval_loss": number(row["valid_loss"]),
                           **({"lr": number(row["event_lr"])} if "event_lr" in row else {}), "kind": "train",
                           "may": {"step": [int(row["epoch"])]},
                           "extra": {k: number(v) for k, v in row.items() if k in ("valid_acc", "roc_auc", "dur")}})
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
            expect.append({"epoch": int(row["epoch"]), "loss": number(row["train_loss"]), "eval_loss": number(row["valid_loss"]),
                           "kind": "train", "may": {"step": [int(row["epoch"])]}, "extra": {"accuracy": number(row["accuracy"])}})
        bar = re.match(r"Epoch (\d+)/\d+ : \|[^|]*\| [\d.]+% \[(\d+)/\d+ [\d:]+<[\d:?]+(?:\.\.\. ([\d.]+))?\]", piece)
        if bar:
            expect.append({"kind": "progress", "may": {"epoch": [int(bar[1])], "step": [int(bar[2])], **({"loss": [number(bar[3])]} if bar[3] else {})}})
        better = re.match(r"Better model found at epoch (\d+) with valid_loss value: ([\d.]+)\.", piece)
        if better:
            expect.append({"kind": "eval", "may": {"epoch": [int(better[1])], "eval_loss": [number(better[2])]}})
    return expect, None, []


def stable_baselines(case, text):
    """Boxed tables of group/ and name rows; evaluation tables hold eval/ rows only."""
    expect, box = [], None
    for piece in pieces(text):
        told = re.match(r"Eval num_timesteps=(\d+), episode_reward=([\d.-]+)", piece)
        if told:
            expect.append({"kind": "eval", "may": {"step": [int(told[1])]}, "extra": {"episode_reward": number(told[2])}})
        bar = re.search(r"(\d+)/384\s+\[ \S+ < \S+ , ([\d,]+|\?) it/s \]", piece)
        if bar:  # environment steps; drawn again after each printed line
            pace = {} if bar[2] == "?" else {"steps_per_s": [number(bar[2])], "samples_per_s": [number(bar[2])]}
            expect.append({"kind": "progress", "may": {"step": [int(bar[1])], **pace}})
        if re.fullmatch(r"-{10,}", piece.strip()):
            if box:
                expect.append(box_entry(box))
                box = None
            else:
                box = {}
            continue
        row = re.match(r"\|\s+(\S+)\s*\|\s*(\S*)\s*\|", piece.strip())
        if box is not None and row and row[2]:
            box[row[1]] = number(row[2])
        elif box is not None and not row:
            box = None
    return [e for e in expect if e], None, saves(case, text)


def box_entry(box):
    """Return the entry of one table."""
    entry = {"step": box["total_timesteps"]} if "total_timesteps" in box else {}
    if "fps" in box:
        entry["samples_per_s"] = box["fps"]
    if "loss" in box:
        entry["loss"] = box["loss"]
    if "learning_rate" in box:
        entry["lr"] = box["learning_rate"]
    entry["kind"] = "train" if "fps" in box or "loss" in box else "eval"
    if "iterations" in box or "n_updates" in box:
        entry["may"] = {"step": [box[k] for k in ("iterations", "n_updates") if k in box]}
    entry["extra"] = {k: v for k, v in box.items() if k not in ("total_timesteps", "fps", "loss", "learning_rate")}
    return entry


def spacy(case, text):
    """Columns E # LOSS TEXTCAT CATS_SCORE SCORE; a loss a component, no total."""
    expect, columns = [], None
    for piece in pieces(text):
        if piece.startswith("E ") and " # " in piece:
            columns = re.split(r"\s{2,}", piece.strip())
        row = re.match(r"\s*(\d+)\s+(\d+)\s+([\d.\s]+)$", piece)
        if columns and row:
            values = dict(zip(columns, [row[1], row[2], *row[3].split()]))
            expect.append({"step": int(row[2]), "epoch": int(row[1]), "kind": "train",
                           "may": {"loss": [number(v) for k, v in values.items() if k.startswith("LOSS")]},
                           "extra": {k.lower(): number(v) for k, v in values.items() if k not in ("E", "#")}})
    return expect, None, re.findall(r"Saved pipeline to output directory\s+(\S+)", ANSI.sub("", text))


LOOP = re.compile(r"step (\d+)/8 \| loss ([\d.]+) \| grad norm ([\d.]+) \| lr (\S+) \| ([\d.]+) ms/step")


def ranks(case, text):
    """The plain loop of ddp_loop.py: two ranks, "[rank 0]" or torchrun's own "[default0]:" before it."""
    expect = []
    for piece in pieces(text):
        at = 0
        for match in LOOP.finditer(piece):
            rank = re.findall(r"\[(?:rank ?|default)(\d+)\]", piece[at:match.start()])
            at = match.end()
            expect.append({"step": int(match[1]), "loss": number(match[2]), "grad_norm": number(match[3]), "lr": number(match[4]),
                           "step_time_s": round(number(match[5]) / 1000, 8), **({"rank": int(rank[-1])} if rank else {}), "kind": "train"})
    return expect, None, saves(case, text)


REACHED = re.compile(r"Epoch (\d+), global step (\d+): '(\w+)' reached ([\d.]+) \(best [\d.]+\), saving model to '([^']+)'")


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
        for match in re.finditer(r"Epoch (\d+):\s+\d+%\|[^|]*\| (\d+)/6 \[[\d:]+<[\d:?]+,\s*([\d.]+|\?)(it/s|s/it)([^\]]*)", piece):
            pace = {} if match[3] == "?" else {"steps_per_s" if match[4] == "it/s" else "step_time_s": number(match[3])}
            expect.append(lightning_bar(int(match[1]), int(match[2]), pace, match[5].split("Epoch")[0], "="))
        match = REACHED.search(piece)
        if match:
            expect.append({"step": int(match[2]), "epoch": int(match[1]), "eval_loss": number(match[4]), "kind": "checkpoint"})
        if piece.startswith("epoch,step,"):
            columns = piece.split(",")
        elif columns and piece.count(",") == len(columns) - 1:
            row = {k: number(v) for k, v in zip(columns, piece.split(",")) if v}
            loss = row.get("train_loss_epoch", row.get("train_loss_step"))
            expect.append({"step": row["step"], "epoch": row["epoch"], **({"loss": loss} if loss is not None else {"eval_loss": row["val_loss"]}),
                           "kind": "train" if loss is not None else "eval"})
    return expect, None, [m[4] for m in REACHED.findall(ANSI.sub("", text))]


def lightning_rich(case, text):
    """Frames "Epoch 0/1 ━━━ 6/6 0:00:00 • 0:00:00 397.81it/s v_num: 0.000" whose metric column wraps over the lines below."""
    flat = ANSI.sub("", text)
    expect = []
    for match in re.finditer(r"Epoch (\d+)/\d+ [\s━╸╺]+(\d+)/6 \S+ • \S+ ([\d.]+)it/s(?P<more>.*?)(?=Epoch|`|\Z)|" + REACHED.pattern, flat, re.S):
        if match["more"] is None:
            expect.append({"step": int(match[6]), "epoch": int(match[5]), "eval_loss": number(match[8]), "kind": "checkpoint"})
        else:
            expect.append(lightning_bar(int(match[1]), int(match[2]), {"steps_per_s": number(match[3])}, match["more"], ":"))
    return expect, None, [m[4] for m in REACHED.findall(flat)]


def accelerate_loop(case, text):
    """One bar with loss and lr over all epochs; evaluation by the logger, with the rank in its prefix."""
    expect = []
    for piece in pieces(text):
        for match in re.finditer(r"\| (\d+)/(\d+) \[[\d:]+<[\d:?]+,\s*([\d.]+)(it/s|s/it), loss=([\d.]+), lr=([\d.e-]+)\]|"
                                 r"\[RANK (\d+)\] epoch (\d+): perplexity: ([\d.]+) eval_loss: ([\d.]+)", piece):
            if match[1]:
                expect.append({"step": int(match[1]), "steps_per_s" if match[4] == "it/s" else "step_time_s": number(match[3]),
                               "loss": number(match[5]), "lr": number(match[6]), "kind": "train"})
            else:
                expect.append({"epoch": int(match[8]), "eval_loss": number(match[10]), "rank": int(match[7]), "kind": "eval",
                               "extra": {"perplexity": number(match[9])}})
    last = [e for e in expect if e["kind"] == "train"][-1]
    # Two processes share the batches, so the loop ends before the total that its bar and log announce.
    summary = {"may": {"total_steps": sorted({last["step"], 8}), "final_loss": [last["loss"]]}}
    return expect, summary, re.findall(r"Saving current state to (\S+)", ANSI.sub("", text))


def ignite(case, text):
    """Logger lines "Epoch[1] Iteration[4/8] Loss: 4.50" (the counter runs over all epochs, its total does not) and the bar."""
    expect = []
    for piece in pieces(text):
        for match in re.finditer(r"Epoch\[(\d+)\] Iteration\[(\d+)/\d+\] Loss: ([\d.]+)|"
                                 r"Validation Results - Epoch: (\d+) Avg loss: ([\d.]+)|"
                                 r"Epoch\[(\d+)\] Complete\. Time taken: 00:00:([\d.]+)|"
                                 r"(?:Epoch \[(\d+)/\d+\]: )?\[(\d+)/8\]\s+\d+%\|[^,\[|]*(?:, loss=([\d.]+))? \[", piece):
            if match[1]:
                expect.append({"epoch": int(match[1]), "loss": number(match[3]), "kind": "train", "may": {"step": [int(match[2])]}})
            elif match[4]:
                expect.append({"epoch": int(match[4]), "eval_loss": number(match[5]), "kind": "eval"})
            elif match[6]:
                expect.append({"kind": "summary", "may": {"epoch": [int(match[6])]}, "extra": {"epoch_time_s": number(match[7])}})
            elif match[10]:
                expect.append({"epoch": int(match[8]), "loss": number(match[10]), "kind": "train", "may": {"step": [int(match[9])]}})
            else:
                expect.append({"kind": "progress", "may": {"step": [int(match[9])], "epoch": [int(match[8])] if match[8] else []}})
    return expect, None, []


def mmengine(case, text):
    """Epoch(train) [1][ 4/12]  lr: 5.0000e-02  eta: 0:00:00  time: 0.0020  data_time: 0.0007  loss: 0.7491"""
    expect = []
    for piece in pieces(text):
        match = re.search(r"Epoch\((train|val)\) \[(\d+)\]\[\s*(\d+)/\d+\]\s+(.*)", piece)
        if not match:
            continue
        values = fields(re.sub(r"eta: \S+", "", match[4]))
        if match[1] == "train":
            expect.append({"epoch": int(match[2]), "lr": values["lr"], "step_time_s": values["time"], "loss": values["loss"], "kind": "train",
                           "may": {"step": [int(match[3])]}, "extra": {"data_time_s": values["data_time"]}})
        else:
            expect.append({"kind": "eval", "may": {"epoch": [int(match[2])], "step": [int(match[3])], "step_time_s": [values["time"]]},
                           "extra": {k: v for k, v in values.items() if k == "accuracy"}})
    return expect, None, [f"epoch {n}" for n in re.findall(r"Saving checkpoint at (\d+) epochs", text)]


def jax_loop(case, text):
    """A bar whose loss is refreshed before its counter, and absl lines glued behind it."""
    expect = []
    for piece in pieces(text):
        for match in re.finditer(r"\| (\d+)/12 \[[\d:]+<[\d:?]+,\s*([\d.]+|\?)(it/s|s/it), loss=([\d.]+)\]|"
                                 r"\] step = (\d+), loss = ([\d.]+), grad_norm = ([\d.]+), steps_per_sec = ([\d.]+)", piece):
            if match[1]:
                pace = {} if match[2] == "?" else {"steps_per_s" if match[3] == "it/s" else "step_time_s": number(match[2])}
                expect.append({"step": int(match[1]), **pace, "loss": number(match[4]), "kind": "train"})
            else:
                expect.append({"step": int(match[5]), "loss": number(match[6]), "grad_norm": number(match[7]),
                               "steps_per_s": number(match[8]), "kind": "train"})
    return expect, None, []


def sklearn(case, text):
    """MLPClassifier: "Iteration 1, loss = 0.7"; GradientBoosting: a table of Iter, Train Loss, OOB Improve."""
    expect = []
    for piece in pieces(text):
        match = re.match(r"Iteration (\d+), loss = ([\d.]+)|Validation score: ([\d.]+)|\s+(\d+)\s+([\d.]+)\s+(-?[\d.]+)\s+([\d.]+)s$", piece.rstrip())
        if match and match[1]:
            expect.append({"step": int(match[1]), "loss": number(match[2]), "kind": "train"})
        elif match and match[3]:
            expect.append({"kind": "eval", "extra": {"validation_score": number(match[3])}})
        elif match:
            expect.append({"step": int(match[4]), "loss": number(match[5]), "kind": "train", "extra": {"oob_improve": number(match[6])}})
    return expect, None, []


def mlx(case, text):
    """The table of mlx-lm 0.32: "iter train_loss tok/s tokens", rows "3  5.701 ▼  10,495  0.5k" and "1  val 5.701  0.97s"."""
    expect = []
    for piece in pieces(text):
        match = re.match(r"\s+(\d+)\s+val ([\d.]+)\s+[\d.]+s\s*$", piece)
        if match:
            expect.append({"step": int(match[1]), "eval_loss": number(match[2]), "kind": "eval"})
        match = re.match(r"\s+(\d+)\s+([\d.]+)(?: [▼▲■●·=–-])?\s+([\d,]+)\s+([\d.]+k?)\s*$", piece)
        if match:
            expect.append({"step": int(match[1]), "loss": number(match[2]), "tokens_per_s": number(match[3]), "kind": "train"})
        for match in re.finditer(r"train [█▌░\s▏▎▍▋▊▉]+\d+% ·\s+(\d+)/12", piece):
            expect.append({"kind": "progress", "may": {"step": [int(match[1])]}})
    return expect, None, [m[1] for m in (re.match(r"\s+save\s+(\S+)", p) for p in pieces(text)) if m]


def torchtune(case, text):
    """StdoutLogger "Step 1 | loss:5.7 lr:0.0005 tokens_per_second_per_gpu:9" and the bar "1|2|Loss: 5.7:  33%|"."""
    expect = []
    for piece in pieces(text):
        for match in re.finditer(r"Step (\d+) \| (loss:.*)|(\d+)\|(\d+)\|Loss: ([\d.]+):\s+\d+%\|[^|]*\| (\d+)/\d+ \[[\d:]+<[\d:?]+,\s*([\d.]+|\?)(it/s|s/it)", piece):
            if match[1]:
                values = fields(match[2])
                entry = {"step": int(match[1])}
                for old, new in (("loss", "loss"), ("lr", "lr"), ("grad_norm", "grad_norm"), ("tokens_per_second_per_gpu", "tokens_per_s")):
                    if old in values:
                        entry[new] = values[old]
                expect.append({**entry, "scope": "per_device", "kind": "train"})
            else:
                pace = {} if match[7] == "?" else {"steps_per_s" if match[8] == "it/s" else "step_time_s": number(match[7])}
                expect.append({"epoch": int(match[3]), "step": int(match[4]), "loss": number(match[5]), **pace, "kind": "train"})
    return expect, None, saves(case, text)


SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def litgpt(case, text):
    """Epoch 1 | iter 2 step 1 | loss train: 5.946, val: n/a | iter time: 27.66 ms (step); val repeats the last evaluation."""
    expect, runtime, rate = [], None, None
    for piece in pieces(text):
        match = re.search(r"Epoch (\d+) \| iter (\d+) step (\d+) \| loss train: ([\d.]+), val: (n/a|[\d.]+) \| iter time: ([\d.]+) (ms|s)", piece)
        if match:
            expect.append({"step": int(match[3]), "epoch": int(match[1]), "loss": number(match[4]),
                           **({} if match[5] == "n/a" else {"eval_loss": number(match[5])}),
                           "step_time_s": round(number(match[6]) * SECONDS[match[7]], 9), "kind": "train", "may": {"step": [int(match[2])]}})
        match = re.match(r"iter (\d+): val loss ([\d.]+), val time", piece)
        if match:
            expect.append({"eval_loss": number(match[2]), "kind": "eval", "may": {"step": [int(match[1])]}})
        match = re.match(r"Final evaluation \| val loss: ([\d.]+) \| val ppl: ([\d.]+)", piece)
        if match:
            expect.append({"eval_loss": number(match[1]), "kind": "eval", "extra": {"perplexity": number(match[2])}})
        match = re.match(r"\| - Training Time\s*:\s+([\d.]+) s", piece)
        runtime = number(match[1]) if match else runtime
        match = re.match(r"\| - Tok/sec\s*:\s+([\d.]+) tok/s", piece)
        if match:
            expect.append({"kind": "summary", "may": {"tokens_per_s": [number(match[1])]}})
    steps = [e for e in expect if e["kind"] == "train"]
    summary = None
    if runtime is not None:
        summary = {"train_runtime_s": runtime, "may": {"total_steps": [steps[-1]["step"], *steps[-1]["may"]["step"]], "final_loss": [steps[-1]["loss"]]}}
    return expect, summary, re.findall(r"Saving checkpoint to '([^']+)'", text)


def tabnet(case, text):
    """epoch 0  | loss: 0.64219 | train_auc: 0.82126 | valid_logloss: 0.60772 |  0:00:00s"""
    expect = []
    for piece in pieces(text):
        match = re.match(r"epoch (\d+)\s+\| (loss: .*?) \|\s+[\d:]+s$", piece)
        if match:
            values = fields(match[2])
            expect.append({"epoch": int(match[1]), "loss": values["loss"], "kind": "train",
                           "may": {"step": [int(match[1])], "eval_loss": [values["valid_logloss"]]}, "extra": {k: v for k, v in values.items() if k != "loss"}})
    return expect, None, []


def gluonts(case, text):
    """Lightning's rich bar without a known total ("8/--"), its metric wrapped below; the checkpoint line names train_loss."""
    flat = ANSI.sub("", text)
    expect = []
    for match in re.finditer(r"Epoch (\d+)/\d+ [\s━╸╺]+(\d+)/\S+ \S+ • \S+ ([\d.]+)it/s(?P<more>.*?)(?=Epoch|`|INFO|\Z)|" + REACHED.pattern, flat, re.S):
        if match["more"] is None:
            expect.append({"step": int(match[6]), "epoch": int(match[5]), "loss": number(match[8]), "kind": "checkpoint"})
        else:
            expect.append({"epoch": int(match[1]), "steps_per_s": number(match[3]), "loss": fields(match["more"])["train_loss"], "kind": "train",
                           "may": {"step": [int(match[2])]}})
    return expect, None, [m[4] for m in REACHED.findall(flat)]


def paddle(case, text):
    """step 2/6 [===>...] - loss: 0.6540 - acc: 0.5625 - ETA: 0s - 56ms/step; the same lines between "Eval begin" and "Eval samples"."""
    expect, epoch, is_eval = [], None, False
    for piece in re.split(r"\r\n|\n|\r|\x08+", ANSI.sub("", text)):
        header = re.match(r"Epoch (\d+)/\d+", piece)
        epoch = int(header[1]) if header else epoch
        is_eval = piece.startswith("Eval begin") or (is_eval and not piece.startswith("Eval samples"))
        match = re.match(r"step (\d+)/\d+ (?:\[[=>.]+\] )?- loss: ([\d.]+) - acc: ([\d.]+) (?:- ETA: \S+ )?- (\d+)(us|ms|s)/step", piece)
        if match and is_eval:
            expect.append({"eval_loss": number(match[2]), "kind": "eval", "may": {"step": [int(match[1])], "epoch": [epoch],
                           "step_time_s": [round(number(match[4]) * SECONDS[match[5]], 9)]}, "extra": {"acc": number(match[3])}})
        elif match:
            expect.append({"epoch": epoch, "loss": number(match[2]), "step_time_s": round(number(match[4]) * SECONDS[match[5]], 9), "kind": "train",
                           "may": {"step": [int(match[1])]}, "extra": {"acc": number(match[3])}})
    return expect, None, re.findall(r"save checkpoint at (\S+)", text)


def flair(case, text):
    """epoch 1 - iter 1/4 - loss 0.64420795 - time (sec): 0.02 - samples/sec: 187.96 - lr: 0.100000; the time is the epoch's so far."""
    expect = []
    for piece in pieces(text):
        match = re.search(r"epoch (\d+) - iter (\d+)/\d+ - loss ([\d.]+) - time \(sec\): ([\d.]+) - samples/sec: ([\d.]+) - lr: ([\d.]+)", piece)
        if match:
            expect.append({"epoch": int(match[1]), "loss": number(match[3]), "samples_per_s": number(match[5]), "lr": number(match[6]),
                           "kind": "train", "may": {"step": [int(match[2])]}, "extra": {"elapsed_s": number(match[4])}})
        match = re.search(r"EPOCH (\d+) done: loss ([\d.]+) - lr: ([\d.]+)", piece)
        if match:
            expect.append({"epoch": int(match[1]), "loss": number(match[2]), "lr": number(match[3]), "kind": "train"})
        match = re.search(r"DEV : loss ([\d.]+) - f1-score \(micro avg\)\s+([\d.]+)", piece)
        if match:
            expect.append({"eval_loss": number(match[1]), "kind": "eval", "extra": {"f1": number(match[2])}})
    return expect, None, []


def monai(case, text):
    """Epoch: 1/2, Iter: 1/4 -- train_loss: 1.8108; learning rate and checkpoint in lines of their own."""
    expect = []
    for piece in pieces(text):
        match = re.search(r"Epoch: (\d+)/\d+, Iter: (\d+)/\d+ -- train_loss: ([\d.]+)|Current learning rate: ([\d.]+)|"
                          r"Epoch\[(\d+)\] Complete\. Time taken: 00:00:([\d.]+)|Saved checkpoint at epoch: (\d+)", piece)
        if match and match[1]:
            expect.append({"epoch": int(match[1]), "loss": number(match[3]), "kind": "train", "may": {"step": [int(match[2])]}})
        elif match and match[4]:
            expect.append({"kind": "progress", "may": {"lr": [number(match[4])]}})
        elif match and match[5]:
            expect.append({"kind": "summary", "may": {"epoch": [int(match[5])]}, "extra": {"epoch_time_s": number(match[6])}})
        elif match:
            expect.append({"kind": "checkpoint", "may": {"epoch": [int(match[7])]}})
    return expect, None, [f"epoch {n}" for n in re.findall(r"Saved checkpoint at epoch: (\d+)", text)]


def ultralytics(case, text):
    """Rows under "Epoch GPU_mem box_loss cls_loss dfl_loss Instances Size" with a bar behind; three losses, no total."""
    expect, hours = [], None
    for piece in pieces(text):
        match = re.match(r"\s+(\d+)/\d+\s+([\d.]+)G\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)\s+(?:\d+\s+)?(?:\d+|…): \d+% [━╸─]+ (\d+)/\d+(?: ([\d.]+)it/s)?\s+[\d.]+s", piece)
        if match:
            expect.append({"epoch": int(match[1]), **({"steps_per_s": number(match[7])} if match[7] else {}), "kind": "train",
                           "may": {"step": [int(match[6])], "mem_gib": [number(match[2])]},
                           "extra": {"box_loss": number(match[3]), "cls_loss": number(match[4]), "dfl_loss": number(match[5])}})
        match = re.match(r"\s+all\s+\d+\s+\d+\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)\s*$", piece)
        if match:
            expect.append({"kind": "eval", "extra": {"P": number(match[1]), "R": number(match[2]), "mAP50": number(match[3]), "mAP50-95": number(match[4])}})
        match = re.match(r"\d+ epochs completed in ([\d.]+) hours", piece)
        hours = number(match[1]) if match else hours
    return expect, {"may": {"train_runtime_s": [hours * 3600]}} if hours is not None else None, []


def deepspeed(case, text):
    """A loop's own "step 4: loss 25.2"; the engine's "step=2, skipped=0, lr=[...]" and its rates; times "| step: 12.46" are no steps."""
    expect = []
    for piece in pieces(text):
        match = re.match(r"step (\d+): loss ([\d.]+)", piece)
        if match:
            expect.append({"step": int(match[1]), "loss": number(match[2]), "kind": "train"})
        match = re.search(r"\] step=(\d+), skipped=\d+, lr=\[([\d.e-]+)\]", piece)
        if match:
            expect.append({"step": int(match[1]), "lr": number(match[2]), "kind": "train", "may": {"rank": [int(r) for r in re.findall(r"\[Rank (\d+)\]", piece)]}})
        match = re.search(r"epoch=(\d+)/micro_step=(\d+)/global_step=(\d+), RunningAvgSamplesPerSec=([\d.]+), CurrSamplesPerSec=([\d.]+)", piece)
        if match:
            mem = re.search(r"MemAllocated=([\d.]+)GB, MaxMemAllocated=([\d.]+)GB", piece)
            expect.append({"step": int(match[3]), "samples_per_s": number(match[5]), "kind": "train",
                           "may": {"epoch": [int(match[1])], "samples_per_s": [number(match[4])], "step": [int(match[2])],
                                   **({"mem_gib": [number(mem[1]), number(mem[2])]} if mem else {})}})
    return expect, None, saves(case, text)


def vowpalwabbit(case, text):
    """A table under a heading of two lines: average loss, loss since the last row, counter; learning rate and averages in prose."""
    expect = []
    for piece in pieces(text):
        match = re.match(r"([\d.]+)\s+([\d.]+)\s+(\d+)\s+[\d.]+\s+-?[\d.]+\s+-?[\d.]+\s+\d+$", piece.rstrip())
        if match:
            expect.append({"kind": "train", "may": {"step": [int(match[3])], "loss": [number(match[2]), number(match[1])]}})
        match = re.match(r"(learning rate|average loss) = ([\d.]+)", piece)
        if match:
            expect.append({"kind": "progress", "may": {"lr" if match[1] == "learning rate" else "loss": [number(match[2])]}})
    return expect, None, []


def ngboost(case, text):
    """[iter 0] loss=2.1438 val_loss=2.1597 scale=1.0000 norm=1.7855"""
    expect = []
    for piece in pieces(text):
        match = re.match(r"\[iter (\d+)\] (.*)", piece)
        if match:
            values = fields(match[2], "=")
            expect.append({"step": int(match[1]), "loss": values["loss"], "eval_loss": values["val_loss"], "kind": "train",
                           "extra": {"scale": values["scale"], "norm": values["norm"]}})
    return expect, None, []


def gensim(case, text):
    """EPOCH 0: training on 4800 raw words (1646 effective words) took 0.0s, 1056222 effective words/s"""
    expect = []
    for piece in pieces(text):
        match = re.search(r"EPOCH (\d+): training on (\d+) raw words .* took ([\d.]+)s, (\d+) effective words/s", piece)
        if match:
            expect.append({"kind": "progress", "may": {"epoch": [int(match[1])], "tokens_per_s": [int(match[4])]}})
        match = re.search(r"'msg': 'training on \d+ raw words .*, (\d+) effective words/s'", piece)
        if match:
            expect.append({"kind": "summary", "may": {"tokens_per_s": [int(match[1])]}})
    return expect, None, []


def d3rlpy(case, text):
    """structlog in colours: "epoch=1 metrics={'loss': 0.39, 'time_step': 0.003} step=20", and a bar an epoch."""
    expect = []
    for piece in pieces(text):
        for match in re.finditer(r"Epoch (\d+)/\d+:\s+\d+%\|[^|]*\| (\d+)/20 \[[\d:]+<[\d:?]+,\s*([\d.]+|\?)(it/s|s/it)(?:, loss=([\d.]+))?\]", piece):
            pace = {} if match[3] == "?" else {"steps_per_s" if match[4] == "it/s" else "step_time_s": number(match[3])}
            if match[5]:
                expect.append({"epoch": int(match[1]), "loss": number(match[5]), **pace, "kind": "train", "may": {"step": [int(match[2])]}})
            else:
                expect.append({"kind": "progress", "may": {"epoch": [int(match[1])], "step": [int(match[2])]}})
        match = re.search(r"epoch=(\d+) metrics=(\{.*?\}) step=(\d+)", piece)
        if match:
            values = python_dict(match[2])
            expect.append({"step": int(match[3]), "epoch": int(match[1]), "loss": values["loss"], "kind": "train",
                           "may": {"step_time_s": [values["time_step"]]}, "extra": values})
    return expect, None, re.findall(r"Model parameters are saved to (\S+)", ANSI.sub("", text))


def olmo_core(case, text):
    """Blocks: "[step=4/12,epoch=1]" and, indented below, "train/CE loss=5.5", "optim/LR (group 0)=0.001", "throughput/device/TPS=1,024"."""
    expect = []
    for step, epoch, body in re.findall(r"\[step=(\d+)/\d+,epoch=(\d+)[^\]]*\]((?:\n    [^\n]*)*)", text):
        values = {k: number(v) for k, v in re.findall(r"\n    ([^=\n]+)=([-+\d.,eE]+)", body)}
        entry, may = {"step": int(step), "epoch": int(epoch)}, {}
        if "train/CE loss" not in values and "throughput/device/TPS" not in values:
            expect.append({"kind": "progress", "may": {"step": [int(step)], "epoch": [int(epoch)]}, "extra": values})
            continue
        for old, new in (("train/CE loss", "loss"), ("optim/total grad norm", "grad_norm"), ("optim/LR (group 0)", "lr"), ("throughput/device/TPS", "tokens_per_s")):
            if old in values:
                entry[new] = values[old]
        if "tokens_per_s" in entry:
            entry["scope"] = "per_device"
            may = {"tokens_per_s": [values["throughput/device/TPS (actual avg)"]],
                   "steps_per_s": [values["throughput/device/BPS"], values["throughput/device/BPS (actual avg)"]]}
        expect.append({**entry, "kind": "train", **({"may": may} if may else {}), "extra": values})
    return expect, None, re.findall(r"Saving checkpoint for step \d+ to '([^']+)'", text)


DRAFTERS = {"hf-trainer": hf, "trl": hf, "sentence-transformers": hf, "setfit": hf, "llama-factory": hf, "axolotl": hf, "ms-swift": hf,
            "xgboost": xgboost, "lightgbm": lightgbm, "catboost": catboost, "keras": keras, "skorch": skorch, "fastai": fastai,
            "stable-baselines3": stable_baselines, "spacy": spacy, "torchrun-example": ranks, "lightning": lightning,
            "lightning-rich": lightning_rich, "accelerate-example": accelerate_loop,
            "pytorch-ignite": ignite, "mmengine": mmengine, "flax": jax_loop, "scikit-learn": sklearn, "mlx": mlx, "torchtune": torchtune, "litgpt": litgpt, "pytorch-tabnet": tabnet, "gluonts": gluonts, "paddle": paddle, "flair": flair, "monai": monai, "ultralytics": ultralytics,
            "deepspeed": deepspeed, "vowpalwabbit": vowpalwabbit, "ngboost": ngboost, "olmo-core": olmo_core, "gensim": gensim, "d3rlpy": d3rlpy}


def draft(case, text):
    """Return (expect, summary, checkpoints) of a log of this case."""
    return DRAFTERS[case.get("drafter", case["framework"])](case, text)
