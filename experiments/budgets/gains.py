"""Lengths by λ against one N of all images, at equal mean N: errors, distances, and what lengths go with.

Shapes: B images, L cells, R rungs.
"""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from evaluation.features.extractors import load_extractor
from evaluation.features.labelled import label_images
from evaluation.features.reference import Reference
from evaluation.features.rows import extract
from evaluation.metrics.statistics import frechet_distance, moments
from evaluation.perceptual.lpips import LPIPS, LPIPSConfig, load_lpips
from experiments.budgets.made import Made
from inference.budgets import (
    BISECTIONS,
    Plan,
    chosen,
    decibels,
    distortions,
    estimated,
    mean_squared,
    multiplier_for,
)
from inference.encode import KeyedImages
from models.mqvae import MQVAE
from models.mqvae.model import OrderedCells
from settings.tokenize import Budget
from shards.images import ImageSample, ImageShards
from shards.images.pixels import to_tensor, to_uint8

BATCH, SEED = 100, 0
CPU = torch.device("cpu")
Lengths = NDArray[np.int64]


def batches_of(samples: Sequence[ImageSample]) -> Iterator[tuple[slice, KeyedImages]]:
    """The images, some at a time."""
    for first in range(0, len(samples), BATCH):
        rows = slice(first, first + BATCH)
        yield rows, KeyedImages.of(samples[rows], SEED)


def remade(model: MQVAE, cells: OrderedCells, lengths: Lengths) -> torch.Tensor:
    """Reconstructions from as many cells of each image as it is given, in [-1, 1], [B, 3, H, W]."""
    length = model.config.num_positions
    within_BL = torch.arange(length) < torch.from_numpy(lengths)[:, None]
    kept_BL = torch.zeros_like(within_BL).scatter(1, cells.order_BL, within_BL)
    positions_BL = torch.arange(length).expand_as(kept_BL).masked_fill(~kept_BL, length)
    return model.decode_tokens(cells.codes_BL, positions_BL).clamp(-1, 1)


@dataclass(frozen=True)
class Judge:
    """Held-out images of a data set, and what measures reconstructions of them.

    Attributes:
        samples: the images.
        lpips: the perceptual distance.
        reference: features of the data set.
    """

    samples: Sequence[ImageSample]
    lpips: LPIPS
    reference: Reference

    @classmethod
    def of(cls, made: Made, data: str) -> "Judge":
        """The held-out images of a data set, and the networks."""
        shards = ImageShards.open(made.shards(data))
        files = (
            made.weights / name for name in ("squeezenet1_1.safetensors", "lpips_squeeze_v0.1.safetensors")
        )
        lpips = load_lpips(LPIPSConfig("squeezenet", *files), "--weights")
        assert lpips is not None
        index = shards.index("val")
        samples = [index.read(row) for row in range(len(index))]
        return cls(samples, lpips, Reference.open(made.reference(data)))

    def cells(self, model: MQVAE) -> list[OrderedCells]:
        """The held-out images' cells, batch by batch."""
        return [model.tokenize_all(to_tensor(batch.images, CPU)) for _, batch in batches_of(self.samples)]

    def errors(self, model: MQVAE, cells: Sequence[OrderedCells], lengths: Lengths) -> NDArray[np.float64]:
        """Mean squared errors of [0, 1] images, [B]."""
        found = [
            mean_squared(remade(model, part, lengths[rows]), to_tensor(batch.images, CPU))
            for (rows, batch), part in zip(batches_of(self.samples), cells, strict=True)
        ]
        return torch.cat(found).double().numpy()

    def scores(self, model: MQVAE, cells: Sequence[OrderedCells], lengths: Lengths) -> "Scores":
        """What reconstructions from as many cells as each image is given are worth."""
        parts = list(zip(batches_of(self.samples), cells, strict=True))
        made = [(rows, batch.images, remade(model, part, lengths[rows])) for (rows, batch), part in parts]
        images = [(rows, real, to_uint8(made_BCHW.numpy())) for rows, real, made_BCHW in made]
        lpips = [self.lpips.of_images(real, image) for _, real, image in images]
        extractor = load_extractor(self.reference.folder, CPU)
        labelled = [
            label_images(
                [replace(sample, image=one) for sample, one in zip(self.samples[rows], image, strict=True)],
                extractor.heads,
                self.reference.facts.classes,
            )
            for rows, _, image in images
        ]
        found = extract(extractor, labelled, keep_logits=False)
        errors = np.concatenate(
            [mean_squared(out, to_tensor(real, CPU)).double().numpy() for _, real, out in made]
        )
        rfd = frechet_distance(self.reference.moments("val"), moments(found.features))
        return Scores(decibels(errors), np.concatenate(lpips), rfd)

    def quality(self, model: MQVAE, budget: Budget) -> NDArray[np.float64]:
        """Estimated quality at n = 1 … L of each held-out image."""
        batches = [batch for _, batch in batches_of(self.samples)]
        found = [estimated(model, batch, budget, lpips=self.lpips.distances)[1] for batch in batches]
        return np.concatenate(found)

    def sizes(self) -> dict[str, list[float]]:
        """What lengths may go with: bytes as a JPEG of quality 95, and the object's area where it is known."""
        areas = [float((sample.mask > 127).mean()) for sample in self.samples if sample.mask is not None]
        return {"jpeg_bytes": [jpeg_bytes(sample) for sample in self.samples]} | (
            {"object_area": areas} if len(areas) == len(self.samples) else {}
        )


@dataclass(frozen=True)
class Scores:
    """What reconstructions of B images are worth.

    Attributes:
        psnr: decibels, [B].
        lpips: perceptual distances, [B].
        rfd: Fréchet distance of their features from the originals'.
    """

    psnr: NDArray[np.float64]
    lpips: NDArray[np.float64]
    rfd: float

    @property
    def means(self) -> dict[str, float]:
        """Mean PSNR, PSNR of the mean error, mean LPIPS, Fréchet distance."""
        return {
            "psnr": round(float(self.psnr.mean()), 3),
            "psnr_of_mean_error": round(float(-10 * np.log10((10 ** (-self.psnr / 10)).mean())), 3),
            "lpips": round(float(self.lpips.mean()), 5),
            "rfd": round(self.rfd, 3),
        }

    def beyond(self, other: "Scores") -> dict[str, list[float]]:
        """Gain in mean PSNR, and change of mean LPIPS in per cent, over others of the same images; with 95 % intervals."""
        percent = 100 * (self.lpips - other.lpips) / other.lpips.mean()
        return {"psnr": interval(self.psnr - other.psnr), "lpips_percent": interval(percent)}


def interval(numbers: NDArray[np.float64]) -> list[float]:
    """Mean, and the ends of its 95 % interval."""
    mean, within = float(numbers.mean()), float(1.96 * numbers.std(ddof=1) / np.sqrt(len(numbers)))
    return [round(mean + side * within, 3) for side in (0, -1, 1)]


def jpeg_bytes(sample: ImageSample) -> float:
    """The size of the image as a JPEG of quality 95."""
    made = io.BytesIO()
    Image.fromarray(sample.image).save(made, "jpeg", quality=95)
    return float(len(made.getvalue()))


def curve(judge: Judge, model: MQVAE, counts: Sequence[int]) -> dict[int, float]:
    """Mean PSNR of held-out images from each number of cells."""
    cells, count = judge.cells(model), len(judge.samples)
    return {
        n: round(float(decibels(judge.errors(model, cells, np.full(count, n))).mean()), 3) for n in counts
    }


def compared(
    judge: Judge, model: MQVAE, shares: Sequence[float], budgets: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """By λ against one N, for each share of the cells and each budget; λ is the one at which these images keep that mean."""
    cells, rows = judge.cells(model), []
    one_n = {
        share: judge.scores(
            model, cells, np.full(len(judge.samples), round(share * model.config.num_positions))
        )
        for share in shares
    }
    for changes in budgets:
        budget = Budget.model_validate({"kind": "rate", **changes})
        quality = judge.quality(model, budget)
        for share in shares:
            plan = Plan(budget, multiplier_for(budget, quality, share * model.config.num_positions))
            lengths = chosen(plan, quality)
            by_lambda = judge.scores(model, cells, lengths)
            rows.append(
                {"share": share, **changes, "multiplier": plan.multiplier, **spread_of(lengths),
                 "by_lambda": by_lambda.means, "one_n": one_n[share].means, "gain_of": by_lambda.beyond(one_n[share]),
                 "mean_as_good": mean_as_good(budget, quality, round(share * model.config.num_positions)),
                 "correlation_with": correlations(lengths, judge.sizes())}
            )  # fmt: skip
    return rows


def mean_as_good(budget: Budget, quality: NDArray[np.float64], count: int) -> float:
    """The mean N at which λ has the mean distortion that `count` cells of every image have, both estimated, [B, L]."""
    goal, low, high = distortions(budget, quality[:, count - 1]).mean(), -40.0, 40.0
    for _ in range(BISECTIONS):
        lengths = chosen(Plan(budget, math.exp((low + high) / 2)), quality)
        reached = np.take_along_axis(quality, lengths[:, None] - 1, axis=1)
        fine = distortions(budget, reached).mean() <= goal
        low, high = ((low + high) / 2, high) if fine else (low, (low + high) / 2)
    return round(float(lengths.mean()), 2)


def spread_of(lengths: Lengths) -> dict[str, Any]:
    """Mean, deviation and quantiles."""
    quantiles = np.quantile(lengths, [0.05, 0.5, 0.95]).round().astype(int).tolist()
    mean, deviation = round(float(lengths.mean()), 2), round(float(lengths.std()), 2)
    return {"mean": mean, "deviation": deviation, "quantiles_5_50_95": quantiles}


def correlations(lengths: Lengths, sizes: dict[str, list[float]]) -> dict[str, list[float]]:
    """Pearson's, with each of the sizes, and its 95 % interval by Fisher's transformation."""
    found, within = {}, 1.96 / np.sqrt(len(lengths) - 3)
    for name, size in sizes.items():
        middle = np.arctanh(np.corrcoef(lengths, size)[0, 1])
        found[name] = [round(float(np.tanh(middle + side * within)), 3) for side in (0, -1, 1)]
    return found
