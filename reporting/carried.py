"""The models that the page carries, so that it draws pictures itself, without a server.

The Stackformer's weights are float32 where they fit, so that the page draws the codes of the stage sample; float16 where only
that fits; the decoder's are float16. Bytes are sorted by significance, since those of signs and exponents compress, then
deflated.
"""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from models.base.pretrained import CONFIG, WEIGHTS
from models.base.published import TEXT_TOKENIZER
from workspace.exact.manifest import read_json

Kind = Literal["float32", "float16"]
Weights = Mapping[str, NDArray[np.float32]]
DECODES = ("decoder.", "demasker.", "mask_code_D", "quantizer.codebook_KD")
"""Beginnings of the names of an MQ-VAE's weights that turn codes into pictures."""
MEGA = 1e6


@dataclass(frozen=True)
class Carried:
    """Both models in the page.

    Attributes:
        text: their weights, deflated, base64; "" where the page does not draw.
        why: in a sentence, why it does not; "" where it does.
        tensors: name, shape and kind of each weight, in the order of the bytes.
        stackformer, mqvae: their config.json.
        settings: of the stage sample: what the controls start with.
        labels: class names; or captions, of which some are offered.
        tokenizer: vocabulary and merges of captions; None for a model without captions.
    """

    text: str
    why: str
    tensors: Sequence[tuple[str, Sequence[int], Kind]]
    stackformer: Mapping[str, Any]
    mqvae: Mapping[str, Any]
    settings: Mapping[str, Any]
    labels: Sequence[str]
    tokenizer: Mapping[str, Any] | None

    @property
    def megabytes(self) -> float:
        """Size of the weights in the page."""
        return len(self.text) / MEGA

    @property
    def exact(self) -> bool:
        """Whether the Stackformer's weights are as published."""
        return all(kind == "float32" for name, _, kind in self.tensors if name.startswith("stackformer."))


def read_carried(
    stackformer: Path, mqvae: Path, settings: Mapping[str, Any], labels: Sequence[str], most: float
) -> Carried:
    """Both models, in the best kind that fits.

    Args:
        stackformer, mqvae: their artifacts.
        settings: of the samples.
        labels: class names, or captions.
        most: megabytes of the page that they may take; 0 carries nothing.
    """
    configs = read_json(stackformer / CONFIG), read_json(mqvae / CONFIG)
    tokenizer = stackformer / TEXT_TOKENIZER
    about = (*configs, settings, labels, read_tokenizer(tokenizer) if tokenizer.is_file() else None)
    if not most:
        return Carried("", "report.draw_megabytes is 0.", (), *about)
    if configs[0].get("fewest_kept") is not None:
        why = "Its images have different numbers of codes, and the page draws one number; the stage sample draws them."
        return Carried("", why, (), *about)
    smallest = 0.0
    for kind in ("float32", "float16"):
        kinds = weights_of(stackformer, mqvae, kind)
        # deflating large weights takes long: they do not shrink below half
        smallest = sum(weight.nbytes for weight, _ in kinds.values()) * 4 / 3 / MEGA
        text = packed(kinds) if smallest / 2 <= most else None
        if text is not None and len(text) <= most * MEGA:
            tensors = [(name, weight.shape, of) for name, (weight, of) in kinds.items()]
            return Carried(text, "", tensors, *about)
        smallest = smallest if text is None else len(text) / MEGA
    why = (
        f"The models are too large: their weights would take {smallest:.0f} MB of this page, and report.draw_megabytes allows "
        f"{most:g}. The stage sample draws from them."
    )
    return Carried("", why, (), *about)


def weights_of(stackformer: Path, mqvae: Path, kind: Kind) -> dict[str, tuple[NDArray[np.floating], Kind]]:
    """The weights that the page needs, `stackformer.NAME` and `mqvae.NAME`, those of one kind together."""
    drawing = {f"stackformer.{name}": weight for name, weight in load_file(stackformer / WEIGHTS).items()}
    decoding = {
        f"mqvae.{name}": weight
        for name, weight in load_file(mqvae / WEIGHTS).items()
        if name.startswith(DECODES)
    }
    kinds: dict[str, tuple[NDArray[np.floating], Kind]] = {
        name: (drawing[name].astype(kind), kind) for name in sorted(drawing)
    }
    return kinds | {name: (decoding[name].astype(np.float16), "float16") for name in sorted(decoding)}


def packed(weights: Mapping[str, tuple[NDArray[np.floating], Kind]]) -> str:
    """All of them as base64 text; see the module."""
    parts = []
    for kind in ("float32", "float16"):
        found = [np.ascontiguousarray(weight).ravel() for weight, of in weights.values() if of == kind]
        values = np.concatenate(found) if found else np.zeros(0, kind)
        size = values.dtype.itemsize
        parts.append(values.view(np.uint8).reshape(-1, size).T.tobytes() if values.size else b"")
    return base64.b64encode(zlib.compress(b"".join(parts), 9)).decode("ascii")


def read_tokenizer(path: Path) -> dict[str, Any]:
    """What the page needs to turn a caption into codes: the vocabulary, and pairs that merge, in order."""
    model = read_json(path)["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return {"vocab": model["vocab"], "merges": merges}
