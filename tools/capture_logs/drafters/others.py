"""Reinforcement learning and vision: boxed tables, structlog, rows cut at the terminal's edge."""

import re

from drafters.common import ANSI, number, pieces, python_dict, saves


def stable_baselines(case, text):
    """Boxed tables of group/ and name rows; evaluation tables hold eval/ rows only."""
    expect, box = [], None
    for piece in pieces(text):
        told = re.match(r"Eval num_timesteps=(\d+), episode_reward=([\d.-]+)", piece)
        if told:
            expect.append(
                {"kind": "eval", "may": {"step": [int(told[1])]}, "extra": {"episode_reward": number(told[2])}}
            )
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


def d3rlpy(case, text):
    """structlog in colours: "epoch=1 metrics={'loss': 0.39, 'time_step': 0.003} step=20", and a bar an epoch."""
    expect = []
    for piece in pieces(text):
        for match in re.finditer(
            r"Epoch (\d+)/\d+:\s+\d+%\|[^|]*\| (\d+)/20 \[[\d:]+<[\d:?]+,\s*([\d.]+|\?)(it/s|s/it)(?:, loss=([\d.]+))?\]",
            piece,
        ):
            pace = {} if match[3] == "?" else {"steps_per_s" if match[4] == "it/s" else "step_time_s": number(match[3])}
            if match[5]:
                expect.append(
                    {
                        "epoch": int(match[1]),
                        "loss": number(match[5]),
                        **pace,
                        "kind": "train",
                        "may": {"step": [int(match[2])]},
                    }
                )
            else:
                expect.append({"kind": "progress", "may": {"epoch": [int(match[1])], "step": [int(match[2])]}})
        match = re.search(r"epoch=(\d+) metrics=(\{.*?\}) step=(\d+)", piece)
        if match:
            values = python_dict(match[2])
            expect.append(
                {
                    "step": int(match[3]),
                    "epoch": int(match[1]),
                    "loss": values["loss"],
                    "kind": "train",
                    "may": {"step_time_s": [values["time_step"]]},
                    "extra": values,
                }
            )
    return expect, None, re.findall(r"Model parameters are saved to (\S+)", ANSI.sub("", text))


def ultralytics(case, text):
    """Rows under "Epoch GPU_mem box_loss cls_loss dfl_loss Instances Size" with a bar behind; three losses, no total."""
    expect, hours = [], None
    for piece in pieces(text):
        match = re.match(
            r"\s+(\d+)/\d+\s+([\d.]+)G\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)\s+(?:\d+\s+)?(?:\d+|…): \d+% [━╸─]+ (\d+)/\d+(?: ([\d.]+)it/s)?\s+[\d.]+s",
            piece,
        )
        if match:
            expect.append(
                {
                    "epoch": int(match[1]),
                    **({"steps_per_s": number(match[7])} if match[7] else {}),
                    "kind": "train",
                    "may": {"step": [int(match[6])], "mem_gib": [number(match[2])]},
                    "extra": {"box_loss": number(match[3]), "cls_loss": number(match[4]), "dfl_loss": number(match[5])},
                }
            )
        match = re.match(r"\s+all\s+\d+\s+\d+\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)\s*$", piece)
        if match:
            expect.append(
                {
                    "kind": "eval",
                    "extra": {
                        "P": number(match[1]),
                        "R": number(match[2]),
                        "mAP50": number(match[3]),
                        "mAP50-95": number(match[4]),
                    },
                }
            )
        match = re.match(r"\d+ epochs completed in ([\d.]+) hours", piece)
        hours = number(match[1]) if match else hours
    return expect, {"may": {"train_runtime_s": [hours * 3600]}} if hours is not None else None, []


def coqui(case, text):
    """Blocks "--> TIME: ... -- STEP: 0/7 -- GLOBAL_STEP: 8" with rows "| > loss: 1.2  (1.3)", then the evaluation's means."""
    expect, block, epoch = [], None, None
    for piece in pieces(text):
        header = re.search(r"> EPOCH: (\d+)/", piece)
        epoch = int(header[1]) if header else epoch
        header = re.search(r"-- STEP: (\d+)/\d+ -- GLOBAL_STEP: (\d+)", piece)
        if header:
            block = {"step": int(header[2]), "kind": "train", "may": {"step": [int(header[1])], "epoch": [epoch]}}
            expect.append(block)
        elif "--> EVAL PERFORMANCE" in piece:
            block = {"kind": "eval", "may": {"epoch": [epoch]}}
            expect.append(block)
        row = re.match(r"\s+\| > (\w+):\s+([\d.e-]+)\s+\((\+?-?[\d.e-]+)\)", piece)
        if row and block is not None:
            names = {"current_lr": "lr", "loss": "loss", "grad_norm": "grad_norm", "step_time": "step_time_s"}
            if row[1] in names:
                block[names[row[1]]] = number(row[2])
                block["may"].setdefault(names[row[1]], []).append(number(row[3]))
            elif row[1] == "avg_loss":
                block["may"]["eval_loss"] = [number(row[2])]
    return expect, None, re.findall(r"> BEST MODEL : (\S+)", text)


def open_clip(case, text):
    """Train Epoch: 0 [ 8/48 (17%)] Data (t): 0.013 Batch (t): 0.087, 92.4441/s, 92.4441/s/gpu LR: 0.000250 ... Loss: 2.0794 (2.0794)"""
    expect = []
    for piece in pieces(text):
        match = re.search(
            r"Train Epoch: (\d+) \[\s*(\d+)/\d+ \(\d+%\)\] Data \(t\): ([\d.]+) Batch \(t\): ([\d.]+), ([\d.]+)/s, ([\d.]+)/s/gpu "
            r"LR: ([\d.]+) .* Loss: ([\d.]+) \(([\d.]+)\)$",
            piece,
        )
        if match:
            expect.append(
                {
                    "epoch": int(match[1]),
                    "loss": number(match[8]),
                    "lr": number(match[7]),
                    "step_time_s": number(match[4]),
                    "samples_per_s": number(match[5]),
                    "kind": "train",
                    "may": {"step": [int(match[2])], "samples_per_s": [number(match[6])], "loss": [number(match[9])]},
                    "extra": {"data_time_s": number(match[3])},
                }
            )
    return expect, None, []


def lerobot(case, text):
    """step:1K smpl:8K ep:40 epch:1.60 loss:0.227 grdn:1.299 lr:1.0e-03 updt_s:0.000: counters rounded above 999, ep is episodes."""
    expect = []
    for piece in pieces(text):
        match = re.search(
            r"step:(\d+)(K?) smpl:\S+ ep:(\d+) epch:([\d.]+) loss:([\d.]+) grdn:([\d.]+) lr:(\S+) updt_s:([\d.]+) data_s:([\d.]+)",
            piece,
        )
        if match:
            entry = {
                "epoch": number(match[4]),
                "loss": number(match[5]),
                "grad_norm": number(match[6]),
                "lr": number(match[7]),
            }
            may = {"step_time_s": [number(match[8])]}
            if match[2]:
                may["step"] = [int(match[1]) * 1000]
            else:
                entry["step"] = int(match[1])
            expect.append({**entry, "kind": "train", "may": may, "extra": {"episodes": int(match[3])}})
    return expect, None, [int(n) for n in re.findall(r"Checkpoint policy after step (\d+)", text)]
