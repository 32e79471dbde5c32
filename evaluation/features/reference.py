"""The reference artifact: features of real images, their moments, the extractor, and the mean image.

train.safetensors, val.safetensors   rows: features, classes, labels, predictions (see rows.py)
moments.safetensors                  mean and covariance of each split's features
steps.safetensors                    steps between neighbouring pixels, summed over each split's images (see grid.py)
extractor.json + weights             the extractor that computed them; `load_extractor` reads it
mean_image.png                       mean of the training images, whose PSNR is the lower bound
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

from evaluation.features.extractors import Both
from evaluation.features.interface import Extractor
from evaluation.features.labelled import LabelledImages, chosen_images
from evaluation.features.labels import class_head
from evaluation.features.rows import FeatureRows
from evaluation.metrics.grid import step_sums
from evaluation.metrics.statistics import FEWEST, Moments, moments
from shards.images import ImageShards
from workspace.errors import UserError
from workspace.exact.manifest import Manifest, atomic_path, facts_of, read_manifest

Split = Literal["train", "val"]
SPLITS = ("train", "val")
FEW = 100
"""Images of a split below which a difference of models is hardly ever seen."""
MOMENTS, MEAN_IMAGE, STEPS = "moments.safetensors", "mean_image.png", "steps.safetensors"


@dataclass(frozen=True)
class SecondFacts:
    """A second network: its name, D₂, SHA-256 of its weights, how images are resized for it."""

    features: str
    dim: int
    weights: str
    resize: str


@dataclass(frozen=True)
class ReferenceFacts:
    """The facts in a reference manifest.

    Attributes:
        features: proxy, inception, squeezenet or efficientnet_lite0.
        dim: D.
        weights: SHA-256 of the extractor's weights.
        resize: how images are resized before it, as text.
        heads: head name → names of its values; empty if the extractor has no heads for this data's labels.
        class_head: the head whose values are the classes, or null.
        classes: class names, or null.
        image_size: pixels per side.
        images: split → number of images behind the features.
        drawn_from: split → number of images in the shards.
        seed: seed of the choice of images.
        fid_split: the split that samples are compared with.
        second: another network whose scores are reported too, or null.
    """

    features: str
    dim: int
    weights: str
    resize: str
    heads: Mapping[str, tuple[str, ...]]
    class_head: str | None
    classes: tuple[str, ...] | None
    image_size: int
    images: Mapping[str, int]
    drawn_from: Mapping[str, int]
    seed: int
    fid_split: str
    second: SecondFacts | None = None

    @classmethod
    def of(
        cls, extractor: Extractor, shards: ImageShards, most: int | None, seed: int, fid_split: str
    ) -> "ReferenceFacts":
        """The facts before any feature is computed; at most `most` images per split are chosen, by seed."""
        counts = {split: shards.count(split) for split in SPLITS}
        return cls(
            features=extractor.name,
            dim=extractor.dim,
            weights=extractor.fingerprint,
            resize=extractor.resize,
            heads=extractor.heads,
            class_head=class_head(extractor.heads, shards.facts.classes),
            classes=shards.facts.classes,
            image_size=shards.facts.image_size,
            images={split: len(chosen_images(count, most, seed)) for split, count in counts.items()},
            drawn_from=counts,
            seed=seed,
            fid_split=fid_split,
            second=_second(extractor),
        )

    def items(self, split: str) -> NDArray[np.int64]:
        """Each row's image index in its split of the image shards, ascending."""
        return chosen_images(self.drawn_from[split], self.images[split], self.seed)

    @property
    def network(self) -> str:
        """The extractor as text, for protocols."""
        second = f"; {self.second.features}, weights {self.second.weights}" if self.second else ""
        return f"{self.features}, weights {self.weights}{second}"

    @property
    def resizing(self) -> str:
        """How images are resized, for protocols."""
        return f"{self.resize}; {self.second.features}: {self.second.resize}" if self.second else self.resize


def _second(extractor: Extractor) -> SecondFacts | None:
    if not isinstance(extractor, Both):
        return None
    found = extractor.second
    return SecondFacts(found.name, found.dim, found.fingerprint, found.resize)


@dataclass(frozen=True)
class Reference:
    """An opened reference artifact."""

    folder: Path
    manifest: Manifest
    facts: ReferenceFacts

    @classmethod
    def open(cls, folder: Path) -> "Reference":
        """Open and check it.

        Raises:
            UserError: missing, incomplete, or another kind of artifact.
        """
        manifest = read_manifest(folder, "reference")
        return cls(folder, manifest, facts_of(ReferenceFacts, manifest))

    def rows(self, split: str) -> FeatureRows:
        """Features and labels of a split."""
        return FeatureRows.load(self.folder / f"{split}.safetensors")

    def moments(self, split: str) -> Moments:
        """Mean and covariance of a split's features."""
        found = load_file(self.folder / MOMENTS)
        return Moments(self.facts.images[split], found[f"{split}.mean"], found[f"{split}.covariance"])

    def steps(self, split: str) -> NDArray[np.int64]:
        """`step_sums` of a split, summed over its images: int64 [2, S - 1]."""
        found: NDArray[np.int64] = load_file(self.folder / STEPS)[split]
        return found

    def mean_image(self) -> NDArray[np.uint8]:
        """Mean of the training images, uint8 [H, W, 3]."""
        with Image.open(self.folder / MEAN_IMAGE) as image:
            return np.asarray(image.convert("RGB"))


def require_images(shards: ImageShards) -> None:
    """Refuse splits that are too small for `evaluate`, before anything is trained.

    Raises:
        UserError: one has fewer than `FEWEST` images.
    """
    for split in SPLITS:
        count = shards.count(split)
        if count < FEWEST:
            raise UserError(
                f"the split {split} of {shards.folder} has {count} image{'' if count == 1 else 's'}, but distances and "
                f"precision need at least {FEWEST} in train and in val: change shard.val_fraction, or add images to shard.source"
            )


def too_few(facts: ReferenceFacts) -> list[str]:
    """What the splits are too small for, with the settings that change it, before any feature is computed."""
    dims = {facts.features: facts.dim} | ({facts.second.features: facts.second.dim} if facts.second else {})
    told = []
    for split, count in facts.images.items():
        short = [f"{name} ({dim:,})" for name, dim in dims.items() if count <= dim]
        if short:
            drawn = facts.drawn_from[split]
            cure = (
                "raise reference.max_images"
                if count < drawn
                else "shard.val_fraction moves images between the splits"
            )
            told.append(
                f"{split} has {count:,} images, no more than {' and '.join(short)} have dimensions: Fréchet distances to it are "
                f"too high and hold only beside others of as many images; {cure}, or reference.fid_split names the larger split"
            )
        if count < FEW:
            told.append(
                f"{split} has {count:,} images: intervals and kernel distances of fewer than {FEW} are wide"
            )
    return told


class PixelSum:
    """Sums over a shard's images, stored beside its rows: pixels int64 [side, side, 3], for the mean image, and `step_sums`."""

    def __init__(self, side: int) -> None:
        self.total = np.zeros((side, side, 3), np.int64)
        self.steps = np.zeros((2, side - 1), np.int64)

    def passing(self, batches: Iterable[LabelledImages]) -> Iterator[LabelledImages]:
        """Yields the batches unchanged while adding them to the sums."""
        for batch in batches:
            self.total += batch.images.sum(axis=0, dtype=np.int64)
            self.steps += step_sums(batch.images).sum(axis=0)
            yield batch

    def save(self, rows: Path) -> None:
        """Write the sums beside the shard's rows, atomically."""
        for suffix, values in ((".npy", self.total), (".steps.npy", self.steps)):
            with atomic_path(rows.with_suffix(suffix)) as temporary:
                np.save(temporary, values)


def gather(shards: Mapping[str, Sequence[Path]], training_images: int, out: Path) -> None:
    """Merge the shards' rows into one file per split, with its moments, and write the mean training image.

    Args:
        shards: split → files of rows, in order, each with its sums beside it.
        training_images: number of images in the mean.
        out: the artifact's folder.
    """
    found, steps = {}, {}
    for split, paths in shards.items():
        rows = FeatureRows.concatenate([FeatureRows.load(path) for path in paths])
        rows.save(out / f"{split}.safetensors")
        found[split] = moments(rows.features)
        steps[split] = np.sum([_kept(path, ".steps.npy") for path in paths], axis=0)
    write_moments(out, found)
    with atomic_path(out / STEPS) as temporary:
        save_file(steps, temporary)
    sums = [_kept(path, ".npy") for path in shards["train"]]
    write_mean_image(out, np.sum(sums, axis=0), training_images)


def _kept(rows: Path, suffix: str) -> NDArray[np.int64]:
    """Read sums written by `PixelSum.save`."""
    found: NDArray[np.int64] = np.load(rows.with_suffix(suffix), allow_pickle=False)
    return found


def write_moments(folder: Path, by_split: Mapping[str, Moments]) -> None:
    """Write moments.safetensors."""
    tensors = {}
    for split, found in by_split.items():
        tensors[f"{split}.mean"], tensors[f"{split}.covariance"] = (
            found.mean,
            np.ascontiguousarray(found.covariance),
        )
    with atomic_path(folder / MOMENTS) as temporary:
        save_file(tensors, temporary)


def write_mean_image(folder: Path, pixel_sum: NDArray[np.int64], count: int) -> None:
    """Write mean_image.png from the sum [H, W, 3] of `count` uint8 images, rounded to whole levels."""
    mean = ((2 * pixel_sum + count) // (2 * count)).astype(np.uint8)
    with atomic_path(folder / MEAN_IMAGE) as temporary:
        Image.fromarray(mean).save(temporary, format="PNG")
