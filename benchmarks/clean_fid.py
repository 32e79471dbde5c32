"""clean-fid beside ours: its module, and a TorchScript file of its Inception's interface and size."""

import contextlib
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

OPERATORS = ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", "qnms() -> Tensor")
_declared: list[Any] = []


def load_clean_fid() -> ModuleType:
    """The module cleanfid.fid.

    It imports torchvision, which does not start beside a torch of another build (the CPU wheel) for want of two operators that
    nothing here calls: they are declared then.
    """
    load_torchvision()
    return importlib.import_module("cleanfid.fid")


def load_torchvision() -> ModuleType:
    """torchvision, whatever version of torch is installed."""
    with contextlib.suppress(RuntimeError):
        return importlib.import_module("torchvision")
    _declared.append(torch.library.Library("torchvision", "DEF"))
    for operator in OPERATORS:
        with contextlib.suppress(RuntimeError):
            _declared[0].define(operator)
    return importlib.import_module("torchvision")


class RandomInception(nn.Module):
    """Inception v3 with random weights and clean-fid's interface: `layers` gives 2,048 features, `output` the logits' weights."""

    def __init__(self) -> None:
        super().__init__()
        load_torchvision()
        models = importlib.import_module("torchvision.models")
        made = models.inception_v3(weights=None, aux_logits=False, init_weights=False, transform_input=False)
        kept = [child for name, child in made.named_children() if name not in ("fc", "dropout")]
        self.layers = nn.Sequential(*kept, nn.Flatten())
        self.output = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 3, 299, 299] in [-1, 1] → logits [B, 1008]."""
        logits: Tensor = self.output(self.layers(x))
        return logits


def write_random_inception(path: Path) -> Path:
    """The network as a TorchScript file, its weights drawn by seed 0."""
    torch.manual_seed(0)
    torch.jit.script(RandomInception().eval()).save(str(path))
    return path
