"""Ultralytics YOLO: a classifier or detector from its yaml on drawn squares; arguments go to train()."""

import sys
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from ultralytics import YOLO


def plain_nms(boxes, scores, limit):
    """Non-maximum suppression for a torchvision that lacks its compiled half (see site/sitecustomize.py)."""
    order, kept = scores.argsort(descending=True), []
    while len(order):
        kept.append(order[0])
        order = order[1:][torchvision.ops.box_iou(boxes[order[:1]], boxes[order[1:]])[0] <= limit]
    return torch.stack(kept) if kept else order


def main():
    if not torchvision.extension._has_ops():
        torchvision.ops.nms = plain_nms
    source = np.random.default_rng(0)
    for part in ("train", "val"):
        Path(f"data/images/{part}").mkdir(parents=True, exist_ok=True)
        Path(f"data/labels/{part}").mkdir(parents=True, exist_ok=True)
        for i in range(8):
            image = source.integers(0, 60, (64, 64, 3), dtype=np.uint8)
            image[16:40, 20:44] = 220
            Image.fromarray(image).save(f"data/images/{part}/{i}.png")
            Path(f"data/labels/{part}/{i}.txt").write_text("0 0.5 0.4375 0.375 0.375\n", encoding="utf-8")
    Path("data.yaml").write_text(
        f"path: {Path('data').resolve()}\ntrain: images/train\nval: images/val\nnames: {{0: square}}\n",
        encoding="utf-8",
    )
    YOLO("yolo11n.yaml").train(
        data="data.yaml",
        epochs=2,
        imgsz=64,
        batch=4,
        device="cpu",
        workers=0,
        plots=False,
        amp=False,
        verbose="quiet" not in sys.argv,
    )


main()
