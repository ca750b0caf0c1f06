"""open_clip_train on its synthetic pairs with a tiny model: arguments go to its own main."""

import json
import sys
from pathlib import Path

import open_clip
from open_clip_train.main import main

Path("tiny.json").write_text(
    json.dumps(
        {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
            "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
        }
    ),
    encoding="utf-8",
)
open_clip.add_model_config("tiny.json")
main(
    [
        "--dataset-type",
        "synthetic",
        "--train-num-samples",
        "48",
        "--batch-size",
        "8",
        "--epochs",
        "2",
        "--model",
        "tiny",
        "--device",
        "cpu",
        "--workers",
        "0",
        "--log-every-n-steps",
        "2",
        "--precision",
        "fp32",
        "--name",
        "tiny",
        "--warmup",
        "2",
        *sys.argv[1:],
    ]
)
