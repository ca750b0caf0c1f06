"""For an environment whose torchvision was built for another torch (a CUDA one beside a CPU one): declares the operators
that its Python half registers fakes for, so that it can be imported. Copy it into that environment's site-packages."""

import importlib.abc
import sys

OPERATORS = [
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
]


class DeclareFirst(importlib.abc.MetaPathFinder):
    """Runs once, just before the first import of torchvision."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            for operator in OPERATORS:
                torch.library.define("torchvision::" + operator.split("(")[0], operator[operator.index("(") :])
        return None


sys.meta_path.insert(0, DeclareFirst())
