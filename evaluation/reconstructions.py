"""Scores of reconstructions, per image and for the data set: pixels, importance maps, codes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation import images, masks
from evaluation.codes import codebook
from evaluation.perceptual.lpips import LPIPS
from evaluation.protocol import Score
from shards.images import ImageSample

Floats = NDArray[np.floating]
Pixels = NDArray[np.uint8]

BACKGROUND = "background"
"""The attribute that says whether an image's background is smooth or textured."""


@dataclass(frozen=True)
class ImageScores:
    """The scores of images, one entry per image.

    Attributes:
        psnr: decibels, against the original.
        psnr_mean_image: the mean training image's PSNR against the original.
        l1: mean absolute difference.
        ssim: structural similarity; empty if images are smaller than its window.
        lpips: perceptual distance; empty if not requested.
        background: the attribute, or "" if there is none.
        mask_auc: AUC of the importance scores against the object's mask; None without a mask.
        gradient_auc: the same for the image's gradient magnitude.
        code_counts: how often each of the K codes was chosen, over all these images.
    """

    psnr: list[float]
    psnr_mean_image: list[float]
    l1: list[float]
    ssim: list[float]
    lpips: list[float]
    background: list[str]
    mask_auc: list[float | None]
    gradient_auc: list[float | None]
    code_counts: list[int]

    def to_json(self) -> dict[str, Any]:
        """The scores as JSON values."""
        return dict(vars(self))

    @classmethod
    def merged(cls, parts: Sequence["ImageScores"]) -> "ImageScores":
        """The scores of all parts (at least one), in order."""
        lists = {name: [value for part in parts for value in getattr(part, name)] for name in vars(parts[0])}
        counts = np.sum([part.code_counts for part in parts], axis=0)
        return cls(**(lists | {"code_counts": [int(count) for count in counts]}))


def score_images(
    samples: Sequence[ImageSample],
    made: Pixels,
    mean_image: Pixels,
    scores: Floats,
    grid: tuple[int, int],
    code_counts: NDArray[np.integer],
    distance: LPIPS | None = None,
) -> ImageScores:
    """Compare a batch with its reconstructions.

    Args:
        samples: B originals.
        made: their reconstructions, uint8 [B, H, W, 3].
        mean_image: uint8 [H, W, 3], the lower bound.
        scores: importance of each cell, [B, L].
        grid: (rows, columns) of cells.
        code_counts: int [K], codes chosen in this batch.
        distance: the perceptual distance, if requested.
    """
    real = np.stack([sample.image for sample in samples])
    small = min(real.shape[1:3]) < images.WINDOW
    return ImageScores(
        psnr=images.psnr(real, made).tolist(),
        psnr_mean_image=images.psnr(real, np.broadcast_to(mean_image, real.shape)).tolist(),
        l1=images.l1(real, made).tolist(),
        ssim=[] if small else images.ssim(real, made).tolist(),
        lpips=[] if distance is None else distance.of_images(real, made).tolist(),
        background=[(sample.attributes or {}).get(BACKGROUND, "") for sample in samples],
        mask_auc=[_auc(sample, row, grid) for sample, row in zip(samples, scores, strict=True)],
        gradient_auc=[_auc(sample, masks.gradient_magnitude(sample.image, grid), grid) for sample in samples],
        code_counts=[int(count) for count in code_counts],
    )


def _auc(sample: ImageSample, scores: Floats, grid: tuple[int, int]) -> float | None:
    if sample.mask is None:
        return None
    return masks.mask_auc(scores, masks.object_share(sample.mask, grid))


def summarise(found: ImageScores, codes: Floats, lpips: str) -> dict[str, Score]:
    """A data set's scores from its images' scores.

    Args:
        found: its images' scores.
        codes: the codebook [K, D].
        lpips: name of the perceptual distance; "" for none.
    """
    counts = np.array(found.code_counts)
    psnr, floor = np.mean(found.psnr), np.mean(found.psnr_mean_image)
    decibels = f"decibels; {images.CONVENTION}"
    values: dict[str, tuple[Any, str]] = {
        "psnr": (psnr, decibels),
        "psnr_mean_image": (floor, f"of the mean training image, {decibels}"),
        "psnr_above_mean_image": (psnr - floor, "difference of the two"),
        "l1": (np.mean(found.l1), images.CONVENTION),
        "codebook_usage": (codebook.usage(counts), "share of the codes chosen at least once"),
        "codebook_perplexity": (codebook.perplexity(counts), "exp entropy of the codes' frequencies"),
        "codebook_effective_rank": (
            codebook.effective_rank(codes),
            "exp entropy of the centred singular values",
        ),
        "codebook_neighbour_distance": (
            codebook.neighbour_distance(codes),
            "mean distance to the nearest other code ÷ root mean square distance to the centre",
        ),
    }
    if found.lpips:
        values["lpips"] = (np.mean(found.lpips), f"{lpips}; mean over images")
    if found.ssim:
        values["ssim"] = (np.mean(found.ssim), f"11-pixel Gaussian window, σ 1.5; {images.CONVENTION}")
    scores = {name: Score(float(value), text) for name, (value, text) in values.items()}
    return scores | _auc_scores("mask_auc", found) | _auc_scores("gradient_auc", found)


def _auc_scores(name: str, found: ImageScores) -> dict[str, Score]:
    """Mean AUC per kind of background, or over all images if backgrounds are unknown."""
    groups: Mapping[str, list[float]] = defaultdict(list)
    for auc, background in zip(getattr(found, name), found.background, strict=True):
        if auc is not None:
            groups[background].append(auc)
    return {
        f"{name}_{background}" if background else name: Score(float(np.mean(values)), masks.CONVENTION)
        for background, values in sorted(groups.items())
    }
