"""Makes what `python -m mlx_lm lora` reads: a tiny Llama folder and rows of text."""

import json
from pathlib import Path

import tiny


def main():
    tiny.save("model")
    Path("rows").mkdir()
    for name, seed in (("train", 0), ("valid", 1), ("test", 2)):
        rows = [json.dumps({"text": t}) for t in tiny.texts(16, seed=seed)]
        Path(f"rows/{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


main()
