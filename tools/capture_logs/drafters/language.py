"""Trainers of language models that do not stand on the Hugging Face Trainer."""

import re

from drafters.common import ANSI, SECONDS, fields, number, pieces, saves


def litgpt(case, text):
    """Epoch 1 | iter 2 step 1 | loss train: 5.946, val: n/a | iter time: 27.66 ms (step); val repeats the last evaluation."""
    expect, runtime = [], None
    for piece in pieces(text):
        match = re.search(
            r"Epoch (\d+) \| iter (\d+) step (\d+) \| loss train: ([\d.]+), val: (n/a|[\d.]+) \| iter time: ([\d.]+) (ms|s)",
            piece,
        )
        if match:
            expect.append(
                {
                    "step": int(match[3]),
                    "epoch": int(match[1]),
                    "loss": number(match[4]),
                    **({} if match[5] == "n/a" else {"eval_loss": number(match[5])}),
                    "step_time_s": round(number(match[6]) * SECONDS[match[7]], 9),
                    "kind": "train",
                    "may": {"step": [int(match[2])]},
                }
            )
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
        summary = {
            "train_runtime_s": runtime,
            "may": {"total_steps": [steps[-1]["step"], *steps[-1]["may"]["step"]], "final_loss": [steps[-1]["loss"]]},
        }
    return expect, summary, re.findall(r"Saving checkpoint to '([^']+)'", text)


def mlx(case, text):
    """The table of mlx-lm 0.32: "iter train_loss tok/s tokens", rows "3  5.701 ▼  10,495  0.5k" and "1  val 5.701  0.97s"."""
    expect = []
    for piece in pieces(text):
        match = re.match(r"\s+(\d+)\s+val ([\d.]+)\s+[\d.]+s\s*$", piece)
        if match:
            expect.append({"step": int(match[1]), "eval_loss": number(match[2]), "kind": "eval"})
        match = re.match(r"\s+(\d+)\s+([\d.]+)(?: [▼▲■●·=–-])?\s+([\d,]+)\s+([\d.]+k?)\s*$", piece)
        if match:
            expect.append(
                {"step": int(match[1]), "loss": number(match[2]), "tokens_per_s": number(match[3]), "kind": "train"}
            )
        for match in re.finditer(r"train [█▌░\s▏▎▍▋▊▉]+\d+% ·\s+(\d+)/12", piece):
            expect.append({"kind": "progress", "may": {"step": [int(match[1])]}})
    return expect, None, [m[1] for m in (re.match(r"\s+save\s+(\S+)", p) for p in pieces(text)) if m]


def torchtune(case, text):
    """StdoutLogger "Step 1 | loss:5.7 lr:0.0005 tokens_per_second_per_gpu:9" and the bar "1|2|Loss: 5.7:  33%|"."""
    expect = []
    for piece in pieces(text):
        for match in re.finditer(
            r"Step (\d+) \| (loss:.*)|(\d+)\|(\d+)\|Loss: ([\d.]+):\s+\d+%\|[^|]*\| (\d+)/\d+ \[[\d:]+<[\d:?]+,\s*([\d.]+|\?)(it/s|s/it)",
            piece,
        ):
            if match[1]:
                values = fields(match[2])
                entry = {"step": int(match[1])}
                for old, new in (
                    ("loss", "loss"),
                    ("lr", "lr"),
                    ("grad_norm", "grad_norm"),
                    ("tokens_per_second_per_gpu", "tokens_per_s"),
                ):
                    if old in values:
                        entry[new] = values[old]
                expect.append({**entry, "scope": "per_device", "kind": "train"})
            else:
                pace = (
                    {}
                    if match[7] == "?"
                    else {"steps_per_s" if match[8] == "it/s" else "step_time_s": number(match[7])}
                )
                entry = {
                    "epoch": int(match[3]),
                    "step": int(match[4]),
                    "loss": number(match[5]),
                    **pace,
                    "kind": "train",
                }
                if match[6] != match[4]:
                    entry["may"] = {"step": [int(match[6])]}  # the counter is drawn anew before the text in front of it
                expect.append(entry)
    return expect, None, saves(case, text)


def olmo_core(case, text):
    """Blocks: "[step=4/12,epoch=1]" and, indented below, "train/CE loss=5.5", "optim/LR (group 0)=0.001", "throughput/device/TPS=1,024"."""
    expect = []
    for step, epoch, body in re.findall(r"\[step=(\d+)/\d+,epoch=(\d+)[^\]]*\]((?:\n    [^\n]*)*)", text):
        values = {k: number(v) for k, v in re.findall(r"\n    ([^=\n]+)=([-+\d.,eE]+)", body)}
        entry, may = {"step": int(step), "epoch": int(epoch)}, {}
        if "train/CE loss" not in values and "throughput/device/TPS" not in values:
            expect.append({"kind": "progress", "may": {"step": [int(step)], "epoch": [int(epoch)]}, "extra": values})
            continue
        for old, new in (
            ("train/CE loss", "loss"),
            ("optim/total grad norm", "grad_norm"),
            ("optim/LR (group 0)", "lr"),
            ("throughput/device/TPS", "tokens_per_s"),
        ):
            if old in values:
                entry[new] = values[old]
        if "tokens_per_s" in entry:
            entry["scope"] = "per_device"
            may = {
                "tokens_per_s": [values["throughput/device/TPS (actual avg)"]],
                "steps_per_s": [values["throughput/device/BPS"], values["throughput/device/BPS (actual avg)"]],
            }
        expect.append({**entry, "kind": "train", **({"may": may} if may else {}), "extra": values})
    return expect, None, re.findall(r"Saving checkpoint for step \d+ to '([^']+)'", text)


def deepspeed(case, text):
    """A loop's own "step 4: loss 25.2"; the engine's "step=2, skipped=0, lr=[...]" and its rates; times "| step: 12.46" are no steps."""
    expect = []
    for piece in pieces(text):
        match = re.match(r"step (\d+): loss ([\d.]+)", piece)
        if match:
            expect.append({"step": int(match[1]), "loss": number(match[2]), "kind": "train"})
        match = re.search(r"\] step=(\d+), skipped=\d+, lr=\[([\d.e-]+)\]", piece)
        if match:
            expect.append(
                {
                    "step": int(match[1]),
                    "lr": number(match[2]),
                    "kind": "train",
                    "may": {"rank": [int(r) for r in re.findall(r"\[Rank (\d+)\]", piece)]},
                }
            )
        match = re.search(
            r"epoch=(\d+)/micro_step=(\d+)/global_step=(\d+), RunningAvgSamplesPerSec=([\d.]+), CurrSamplesPerSec=([\d.]+)",
            piece,
        )
        if match:
            mem = re.search(r"MemAllocated=([\d.]+)GB, MaxMemAllocated=([\d.]+)GB", piece)
            expect.append(
                {
                    "step": int(match[3]),
                    "samples_per_s": number(match[5]),
                    "mem_gib": number(mem[2]),
                    "kind": "train",
                    "may": {
                        "mem_gib": [number(mem[1])],
                        "epoch": [int(match[1])],
                        "samples_per_s": [number(match[4])],
                        "step": [int(match[2])],
                    },
                }
            )
    return expect, None, saves(case, text)


def spacy(case, text):
    """Columns E # LOSS TEXTCAT CATS_SCORE SCORE; a loss a component, no total."""
    expect, columns = [], None
    for piece in pieces(text):
        if piece.startswith("E ") and " # " in piece:
            columns = re.split(r"\s{2,}", piece.strip())
        row = re.match(r"\s*(\d+)\s+(\d+)\s+([\d.\s]+)$", piece)
        if columns and row:
            values = dict(zip(columns, [row[1], row[2], *row[3].split()]))
            expect.append(
                {
                    "step": int(row[2]),
                    "epoch": int(row[1]),
                    "kind": "train",
                    "may": {"loss": [number(v) for k, v in values.items() if k.startswith("LOSS")]},
                    "extra": {k.lower(): number(v) for k, v in values.items() if k not in ("E", "#")},
                }
            )
    return expect, None, re.findall(r"Saved pipeline to output directory\s+(\S+)", ANSI.sub("", text))


def flair(case, text):
    """epoch 1 - iter 1/4 - loss 0.64420795 - time (sec): 0.02 - samples/sec: 187.96 - lr: 0.100000; the time is the epoch's so far."""
    expect = []
    for piece in pieces(text):
        match = re.search(
            r"epoch (\d+) - iter (\d+)/\d+ - loss ([\d.]+) - time \(sec\): ([\d.]+) - samples/sec: ([\d.]+) - lr: ([\d.]+)",
            piece,
        )
        if match:
            expect.append(
                {
                    "epoch": int(match[1]),
                    "loss": number(match[3]),
                    "samples_per_s": number(match[5]),
                    "lr": number(match[6]),
                    "kind": "train",
                    "may": {"step": [int(match[2])]},
                    "extra": {"elapsed_s": number(match[4])},
                }
            )
        match = re.search(r"EPOCH (\d+) done: loss ([\d.]+) - lr: ([\d.]+)", piece)
        if match:
            expect.append({"epoch": int(match[1]), "loss": number(match[2]), "lr": number(match[3]), "kind": "train"})
        match = re.search(r"DEV : loss ([\d.]+) - f1-score \(micro avg\)\s+([\d.]+)", piece)
        if match:
            expect.append({"eval_loss": number(match[1]), "kind": "eval", "extra": {"f1": number(match[2])}})
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
