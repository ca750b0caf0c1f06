"""The Hugging Face Trainer and what stands on it; loops on accelerate."""

import re

from drafters.common import ANSI, number, pieces, python_dict

BAR = re.compile(
    r"(?<!\d)\d+%\|[^|]*\|\s*(?P<at>\d+)/(?P<all>\d+) "
    r"\[[\d:]+<[\d:?]+,\s*(?P<rate>[\d.]+|\?)(?P<unit>it/s|s/it)(?:, [^\]]*)?\]"
)

DICT = re.compile(r"\{'(?:\w*loss|eval_|train_)[^{}]*\}")  # starts with a metric, unlike a printed configuration


def rate(match):
    """Return the rate of a bar as an entry's field; nothing for the placeholder "?it/s"."""
    if match["rate"] == "?":
        return {}
    return {"steps_per_s" if match["unit"] == "it/s" else "step_time_s": number(match["rate"])}


HF_FIELDS = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "lr",
    "epoch": "epoch",
    "step_time": "step_time_s",
    "train_tokens_per_second": "tokens_per_s",
    "tokens/train_per_sec_per_gpu": "tokens_per_s",
    "memory(GiB)": "mem_gib",
    "train_speed(s/it)": "step_time_s",
}


HF_SUMMARY = {
    "train_runtime": "train_runtime_s",
    "train_samples_per_second": "train_samples_per_s",
    "train_steps_per_second": "train_steps_per_s",
}


def hf(case, text):
    """Trainers on top of the Hugging Face Trainer: bars of case["steps"], dicts with quoted numbers."""
    expect, summary, checkpoints, told = [], {}, [], 0
    # A nested bar (evaluation) moves the cursor up again after each draw; its total may be the training's.
    for piece in pieces(re.sub(r"\]\x1b\[A", "]<nested>", text)):
        rank = re.match(r"\[(?:default|rank)(\d+)\]:", piece)
        own = {"rank": int(rank[1])} if rank else {}
        found = [(m.start(), "bar", m) for m in BAR.finditer(piece)] + [
            (m.start(), "dict", m) for m in DICT.finditer(piece)
        ]
        for _, kind, match in sorted(found, key=lambda f: f[0]):
            if kind == "bar":
                if (
                    int(match["all"]) == case["steps"]
                    and rate(match)
                    and not piece[match.end() :].startswith("<nested>")
                ):
                    expect.append({"step": int(match["at"]), **rate(match), **own, "kind": "progress"})
                continue
            values = {
                k: number(v) if k != "epoch" or v != "" else v
                for k, v in python_dict(match[0]).items()
                if isinstance(v, (int, float)) or re.fullmatch(r"[-+]?(\d[\d.]*(e[-+]?\d+)?|nan|inf)", str(v))
            }
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
                may = {
                    new: [values[old]]
                    for old, new in (
                        ("eval_samples_per_second", "samples_per_s"),
                        ("eval_steps_per_second", "steps_per_s"),
                        ("eval_embedding_samples_per_second", "samples_per_s"),
                        ("eval_embedding_steps_per_second", "steps_per_s"),
                        ("eval_embedding_loss", "eval_loss"),
                    )
                    if old in values
                }
            else:
                entry = {new: values[old] for old, new in HF_FIELDS.items() if old in values}
                may = {"loss": [values["embedding_loss"]]} if "embedding_loss" in values else {}
            if not is_eval and "global_step/max_steps" not in match[0] and "every" in case:
                told += 1  # the step that the trainer logged; the bar before the line may be steps ahead of it
                entry["step_ctx"] = told * case["every"]
            at = re.search(r"'global_step/max_steps': '(\d+)/\d+'", match[0])
            if at:
                entry["step"] = int(at[1])
            if is_eval and "train_speed(s/it)" in values:
                may["step_time_s"] = [values["train_speed(s/it)"]]
            if "tokens/train_per_sec_per_gpu" in values:
                entry["scope"] = "per_device"
            if "memory/max_active (GiB)" in values:
                may["mem_gib"] = [values["memory/max_active (GiB)"]]
            rest = {
                k: v
                for k, v in values.items()
                if k not in HF_FIELDS and k not in ("eval_loss", "eval_samples_per_second", "eval_steps_per_second")
            }
            expect.append(
                {
                    **entry,
                    **own,
                    "kind": "eval" if is_eval else "train",
                    **({"may": may} if may else {}),
                    **({"extra": rest} if rest else {}),
                }
            )
        saved = re.search(r"Saving model checkpoint to (\S+)|Model successfully saved to (\S+)", piece)
        if saved:
            checkpoints.append(saved[1] or saved[2])
    for name, body in re.findall(r"\*{5} (train|eval) metrics \*{5}\r?\n((?:  \w+\s+= +\S+\r?\n?)+)", text):
        table = dict(re.findall(r"(\w+)\s+= +(\S+)", body))
        if name == "eval":
            expect.append(
                {
                    "epoch": number(table["epoch"]),
                    "eval_loss": number(table["eval_loss"]),
                    "kind": "eval",
                    "may": {
                        "samples_per_s": [number(table["eval_samples_per_second"])],
                        "steps_per_s": [number(table["eval_steps_per_second"])],
                    },
                }
            )
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


def accelerate_loop(case, text):
    """One bar with loss and lr over all epochs; evaluation by the logger, with the rank in its prefix."""
    expect = []
    for piece in pieces(text):
        for match in re.finditer(
            r"\| (\d+)/(\d+) \[[\d:]+<[\d:?]+,\s*([\d.]+)(it/s|s/it), loss=([\d.]+), lr=([\d.e-]+)\]|"
            r"\[RANK (\d+)\] epoch (\d+): perplexity: ([\d.]+) eval_loss: ([\d.]+)",
            piece,
        ):
            if match[1]:
                expect.append(
                    {
                        "step": int(match[1]),
                        "steps_per_s" if match[4] == "it/s" else "step_time_s": number(match[3]),
                        "loss": number(match[5]),
                        "lr": number(match[6]),
                        "kind": "train",
                    }
                )
            else:
                expect.append(
                    {
                        "epoch": int(match[8]),
                        "eval_loss": number(match[10]),
                        "rank": int(match[7]),
                        "kind": "eval",
                        "extra": {"perplexity": number(match[9])},
                    }
                )
    last = [e for e in expect if e["kind"] == "train"][-1]
    # Two processes share the batches, so the loop ends before the total that its bar and log announce.
    summary = {"may": {"total_steps": sorted({last["step"], 8}), "final_loss": [last["loss"]]}}
    return expect, summary, re.findall(r"Saving current state to (\S+)", ANSI.sub("", text))
