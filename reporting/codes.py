"""The codebook's first two principal components: one dot per code, larger the more it is used."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from evaluation.examples import INPUT, read_examples, read_picture
from workspace.errors import UserError
from workspace.exact.manifest import Manifest

SIDE, PADDING = 420.0, 26.0
SMALLEST, LARGEST = 1.6, 7.0
MOST = 4096
"""Most dots shown; for a larger codebook these are the most used codes."""


@dataclass(frozen=True)
class Dot:
    """A code's position and radius in a square of SIDE, and its share of use (None if not counted).

    `colour` is the mean colour of the cells with this code, #rrggbb; "" if none is among the examples.
    """

    code: int
    x: float
    y: float
    radius: float
    share: float | None
    colour: str


@dataclass(frozen=True)
class Scatter:
    """The dots, the share of variance along each axis, and the total number of codes."""

    dots: list[Dot]
    variance: tuple[float, float]
    codes: int


def read_scatter(folder: Path, colours: Mapping[int, str]) -> Scatter:
    """The codebook of an MQ-VAE artifact as dots, coloured by `colours` (code → #rrggbb).

    Raises:
        UserError: its weights hold no codebook.
    """
    path = folder / "model.safetensors"
    with safe_open(path, framework="numpy") as weights:
        names = set(weights.keys())
        if "quantizer.codebook_KD" not in names:
            raise UserError(f"{path} holds no quantizer.codebook_KD: run `dvc repro train_mqvae`")
        codebook_KD = weights.get_tensor("quantizer.codebook_KD").astype(np.float64)
        counted = "quantizer.count_K" in names
        count_K = weights.get_tensor("quantizer.count_K").astype(np.float64) if counted else None
    return scatter(codebook_KD, count_K, colours)


def read_colours(folder: Path, manifest: Manifest) -> dict[int, str]:
    """Code → mean colour of its cells in the examples of a reconstructions artifact, #rrggbb."""
    sums: dict[int, NDArray[np.float64]] = {}
    counts: Counter[int] = Counter()
    for example in read_examples(folder):
        image = np.asarray(read_picture(folder, manifest, example, INPUT))
        rows, columns = example.grid
        cells = image.reshape(rows, image.shape[0] // rows, columns, image.shape[1] // columns, 3)
        mean_L3 = cells.mean(axis=(1, 3)).reshape(-1, 3)
        for code, position in zip(example.codes, example.kept, strict=True):
            sums[code] = sums.get(code, np.zeros(3)) + mean_L3[position]
            counts[code] += 1
    return {
        code: "#" + bytes(np.rint(total / counts[code]).astype(np.uint8)).hex()
        for code, total in sums.items()
    }


def scatter(
    codebook_KD: NDArray[np.float64], count_K: NDArray[np.float64] | None, colours: Mapping[int, str]
) -> Scatter:
    """Project codes to their first two principal components."""
    place_K2, variance = principal(codebook_KD)
    if count_K is None:
        share_K, radius_K = None, np.full(len(codebook_KD), (SMALLEST + LARGEST) / 2)
    else:
        share_K = count_K / max(float(count_K.sum()), 1e-30)
        relative = np.sqrt(share_K / max(float(share_K.max()), 1e-30))
        radius_K = SMALLEST + (LARGEST - SMALLEST) * relative
    reach = max(float(np.abs(place_K2).max()), 1e-30)
    centre = SIDE / 2 + place_K2 / reach * (SIDE / 2 - PADDING) * np.array([1, -1])
    largest_first = np.argsort(-radius_K, kind="stable")[:MOST]
    dots = [
        Dot(
            code=int(k),
            x=round(float(centre[k, 0]), 1),
            y=round(float(centre[k, 1]), 1),
            radius=round(float(radius_K[k]), 1),
            share=None if share_K is None else float(share_K[k]),
            colour=colours.get(int(k), ""),
        )
        for k in largest_first
    ]
    return Scatter(dots, variance, len(codebook_KD))


def principal(codebook_KD: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Coordinates [K, 2] along the two directions with the most variance, and each direction's share of the variance."""
    centred_KD = codebook_KD - codebook_KD.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred_KD, full_matrices=False)
    places = np.zeros((len(codebook_KD), 2))
    axes = min(2, len(sizes))
    places[:, :axes] = left[:, :axes] * sizes[:axes]
    share = np.zeros(2)
    share[:axes] = sizes[:axes] ** 2 / max(float((sizes**2).sum()), 1e-30)
    return places, (float(share[0]), float(share[1]))
