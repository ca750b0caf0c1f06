"""Makes what `litgpt finetune_full` and `litgpt pretrain` read: a checkpoint folder of a tiny GPT, and texts."""

import json
from pathlib import Path

import tiny
import torch
from litgpt import GPT, Config
from litgpt.utils import save_config


def main():
    folder = Path("base")
    folder.mkdir()
    config = Config(
        name="tiny",
        hf_config={},
        block_size=256,
        vocab_size=300,
        padded_vocab_size=320,
        n_layer=2,
        n_head=4,
        n_embd=32,
        rotary_percentage=1.0,
        intermediate_size=64,
    )
    torch.manual_seed(0)
    torch.save(GPT(config).state_dict(), folder / "lit_model.pth")
    save_config(config, folder)
    tiny.tokenizer(chat=False).save_pretrained(folder)
    rows = [{"instruction": t[:20], "output": t[20:60]} for t in tiny.texts(24)]
    Path("rows").mkdir()
    Path("rows/train.json").write_text(json.dumps(rows[:16]), encoding="utf-8")
    Path("rows/val.json").write_text(json.dumps(rows[16:]), encoding="utf-8")
    Path("texts").mkdir()
    for number in range(3):
        Path(f"texts/{number}.txt").write_text(" ".join(tiny.texts(200, seed=number)), encoding="utf-8")


main()
