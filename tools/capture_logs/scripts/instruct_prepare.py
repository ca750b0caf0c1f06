"""Makes a tiny Llama folder and rows in the alpaca form, for LLaMA-Factory, Axolotl and Swift."""

import json
from pathlib import Path

import tiny


def main():
    tiny.save("model")
    Path("rows").mkdir()
    rows = [{"instruction": t[:20], "input": "", "output": t[20:60]} for t in tiny.texts(24)]
    Path("rows/tiny.json").write_text(json.dumps(rows), encoding="utf-8")
    Path("rows/dataset_info.json").write_text(json.dumps({"tiny": {"file_name": "tiny.json"}}), encoding="utf-8")


main()
