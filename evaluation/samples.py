"""Samples as they are stored: tars of KEY.png and KEY.json, read back with what each was asked to show."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evaluation.labelled import LabelledImages
from evaluation.labels import UNKNOWN, expected_of_prompt, expected_values
from evaluation.reference import ReferenceFacts
from shards.tar import iterate_tar
from workspace.errors import UserError


@dataclass(frozen=True)
class Sample:
    """One generated image.

    Attributes:
        index: its number i; its randomness depends on (seed, i) alone.
        image: uint8 [H, W, 3].
        cls: index of the class it was asked for, or None.
        prompt: the caption it was asked for, or None.
    """

    index: int
    image: NDArray[np.uint8]
    cls: int | None
    prompt: str | None


def sample_shards(folder: Path) -> list[Path]:
    """The tars of a samples artifact, in order.

    Raises:
        UserError: there is none.
    """
    found = sorted(folder.glob("*.tar"))
    if not found:
        raise UserError(f"{folder} holds no samples (*.tar): run `dvc repro sample`")
    return found


def read_samples(path: Path) -> Iterator[Sample]:
    """Samples of one tar, in its order."""
    images: dict[str, NDArray[np.uint8]] = {}
    for name, content in iterate_tar(path):
        key, _, extension = name.partition(".")
        if extension == "png":
            with Image.open(io.BytesIO(content)) as image:
                images[key] = np.asarray(image.convert("RGB"))
        elif extension == "json":
            told = json.loads(content)
            yield Sample(told["index"], images.pop(key), told.get("cls"), told.get("prompt"))
    if images:
        raise UserError(f"{path} holds {min(images)}.png without its .json: run `dvc repro sample`")


def label_samples(samples: Sequence[Sample], facts: ReferenceFacts) -> LabelledImages:
    """A batch with the labels that were asked for: by class, or by the words of the prompt."""
    expected = [
        expected_values(facts.heads, facts.classes, sample.cls, None)
        if sample.prompt is None
        else expected_of_prompt(facts.heads, sample.prompt)
        for sample in samples
    ]
    return LabelledImages(
        images=np.stack([sample.image for sample in samples]),
        classes=np.array([UNKNOWN if sample.cls is None else sample.cls for sample in samples], np.int64),
        expected=np.array(expected, np.int64).reshape(len(samples), len(facts.heads)),
    )
