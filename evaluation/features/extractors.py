"""The feature extractors by name: put one into a reference artifact, and load it from there."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from evaluation.features.efficientnet import install_efficientnet, load_efficientnet
from evaluation.features.inception import install_inception, load_inception
from evaluation.features.interface import Extractor, Features, Images
from evaluation.features.proxy import CONFIG, load_proxy
from evaluation.features.squeezenet import install_squeezenet, load_squeezenet
from workspace.exact.manifest import read_json, write_json

Pretrained = Literal["inception", "squeezenet", "efficientnet_lite0"]
FeaturesName = Literal["proxy", Pretrained]
SECOND = "second"
"""Folder of the second network, in that of the first."""


def install_pretrained(name: Pretrained, weights: Path | None, sha256: str | None, folder: Path) -> None:
    """Install a published network into `folder`: its weights, and an extractor.json that names it.

    Args:
        name: which one.
        weights: its file; None downloads it, and EfficientNet's comes from an installed package.
        sha256: of Inception's file (64 hex digits), without which it is not loaded; the others' are data and need none.
        folder: where `load_extractor` will find it.

    Raises:
        UserError: no such file, a file that does not fit, or a failed download; the error says what to fetch and where to
            put it.
    """
    if name == "inception":
        install_inception(weights, sha256, folder)
    elif name == "squeezenet":
        install_squeezenet(weights, folder)
    else:
        install_efficientnet(weights, folder)
    write_json(folder / CONFIG, {"name": name})


class Both:
    """An extractor, and a second network whose features are added to its own."""

    def __init__(self, first: Extractor, second: Extractor) -> None:
        self.first, self.second = first, second
        self.name, self.dim, self.fingerprint = first.name, first.dim, first.fingerprint
        self.resize, self.heads = first.resize, first.heads

    def __call__(self, images: Images) -> Features:
        """Features of uint8 images [B, H, W, 3]."""
        return replace(self.first(images), second=self.second(images).features)


def load_extractor(folder: Path, device: torch.device, sha256: str | None = None) -> Extractor:
    """The extractor stored in a reference artifact (extractor.json and its weights), with a second one if that has one.

    Args:
        folder: the artifact's folder.
        device: where to compute.
        sha256: SHA-256 of Inception's TorchScript, from the caller's settings; the other extractors need none.

    Raises:
        UserError: there is no extractor, or the TorchScript file does not match `sha256`.
    """
    first = _load(folder, device, sha256)
    return Both(first, _load(folder / SECOND, device, sha256)) if (folder / SECOND).is_dir() else first


def _load(folder: Path, device: torch.device, sha256: str | None) -> Extractor:
    name = read_json(folder / CONFIG)["name"]
    if name == "inception":
        return load_inception(folder, sha256, device)
    if name == "squeezenet":
        return load_squeezenet(folder, device)
    if name == "efficientnet_lite0":
        return load_efficientnet(folder, device)
    return load_proxy(folder, device)


def score_name(features: str, score: str) -> str:
    """A score's name with these features; only Inception's may be called fid, rfid, kid, ….

    Args:
        features: proxy, inception, squeezenet, efficientnet_lite0.
        score: fd, rfd, kid, precision, recall, within_class_variance_ratio.
    """
    if features != "inception":
        return f"{features}_{score}"
    return {"fd": "fid", "rfd": "rfid"}.get(score, score)
