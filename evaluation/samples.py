"""Samples as they are stored: tars of KEY.png and KEY.json, read back with what each was asked to show."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.labelled import LabelledImages
from evaluation.labels import UNKNOWN, expected_of_prompt, expected_values
from evaluation.reference import ReferenceFacts
from shards.images import decode
from shards.tar import iterate_tar
from workspace.errors import UserError
from workspace.manifest import Manifest, parsed, verify_file


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


@dataclass(frozen=True)
class Told:
    """A sample's .json."""

    index: int
    cls: int | None = None
    prompt: str | None = None


def sample_shards(folder: Path, manifest: Manifest) -> list[Path]:
    """The tars of a samples artifact that its manifest names, in order.

    Raises:
        UserError: there is none.
    """
    found = [folder / name for name in sorted(manifest.files) if name.endswith(".tar")]
    if not found:
        raise UserError(f"{folder} holds no samples (*.tar): run `dvc repro sample`")
    return found


def read_stored(path: Path, manifest: Manifest) -> Iterator[tuple[Told, bytes]]:
    """What is told of each sample of one tar, and its PNG, in its order, after a look at each byte.

    Raises:
        UserError: the tar was changed, or a picture and its .json are not both there.
    """
    verify_file(path.parent, manifest, path.name)
    pictures: dict[str, bytes] = {}
    for name, content in iterate_tar(path):
        key, _, extension = name.partition(".")
        if extension == "png":
            pictures[key] = content
        elif extension == "json" and key in pictures:
            yield parsed(Told, content, f"{path}: {name}"), pictures.pop(key)
        else:
            raise UserError(f"{path} holds {name} without its picture: run `dvc repro sample`")
    if pictures:
        raise UserError(f"{path} holds {min(pictures)}.png without its .json: run `dvc repro sample`")


def read_samples(path: Path, manifest: Manifest) -> Iterator[Sample]:
    """Samples of one tar, in its order; UserError where one is damaged."""
    for told, content in read_stored(path, manifest):
        image = decode(str(told.index), {"png": content}).image
        yield Sample(told.index, image, told.cls, told.prompt)


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
