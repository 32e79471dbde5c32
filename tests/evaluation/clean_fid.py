"""A small TorchScript network of the interface of clean-fid's Inception."""

from pathlib import Path

import torch
from torch import Tensor, nn

CHANNELS = 24
"""Features of the stand-in that are not always 0."""


class StandIn(nn.Module):
    """The parts of clean-fid's Inception that are called: `layers` gives 2,048 features, `output` has the logits' weights.

    Two convolutions that see colours and detail; the other features are 0, which changes no distance.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 12, 5, stride=2),
            nn.ReLU(),
            nn.Conv2d(12, CHANNELS, 5, stride=4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.ZeroPad1d((0, 2048 - CHANNELS)),
        )
        self.output = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 3, 299, 299] in [-1, 1] → logits [B, 1008]."""
        logits: Tensor = self.output(self.layers(x))
        return logits


def write_stand_in(path: Path) -> Path:
    """A stand-in as a TorchScript file, its weights drawn by seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = StandIn()
        with torch.no_grad():
            for layer in (made.layers[0], made.layers[2]):
                layer.weight.mul_(3)
    torch.jit.script(made.eval()).save(str(path))
    return path
