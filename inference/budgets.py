"""How many cells each image is given: a quality that it must reach, or what the next cell must be worth.

An image is encoded once, and reconstructed from its n best cells at a ladder of n, not at all L. Between rungs PSNR is taken for
a smooth function of log n that never falls; LPIPS, a perceptual distance, likewise for one that never rises.

    quality  N = the least n with PSNR(n) ≥ the goal, or LPIPS(n) ≤ the goal; or L
    rate     N = argmin over n of D(n) + λ n, D the mean squared error, -PSNR or LPIPS

The argmin is where the next cell no longer lowers D by λ. One λ holds for all images; it is found on training images so that
the mean of N equals the requested one.

Shapes: B images, L cells, R rungs, N kept cells.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from inference.encode import KeyedImages, encoder_on, rankings
from models.base.precision import Precision, autocast
from models.mqvae import MQVAE
from models.mqvae.masker import num_kept
from models.mqvae.model import OrderedCells
from settings.tokenize import Budget, TokenizeSettings, fewest_cells
from shards.images import ImageShards
from shards.images.pixels import to_tensor
from workspace.errors import UserError
from workspace.exact.manifest import read_json, write_json
from workspace.progress import track

Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Pairs of images [B, 3, H, W] in [-1, 1] → the distance of each, [B], ≥ 0: LPIPS."""
LEAST_ERROR = 1e-10
"""Smallest mean squared error of [0, 1] images: 100 dB."""
BISECTIONS = 60


class RaggedArrays(NamedTuple):
    """Tokens of images with different numbers of codes.

    Attributes:
        codes: int64 [ΣN] in 0 … K-1, one image after the other.
        positions: int64 [ΣN] in 0 … L-1, ascending in each image.
        lengths: int64 [B], N of each image.
        quality: float64 [B], what its reconstruction is estimated at: PSNR in decibels, or minus LPIPS, so that higher is better.
    """

    codes: NDArray[np.int64]
    positions: NDArray[np.int64]
    lengths: NDArray[np.int64]
    quality: NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """How the number of cells of an image is decided.

    Attributes:
        budget: the requested budget, of kind quality or rate.
        multiplier: λ of rate; 0 for quality.
    """

    budget: Budget
    multiplier: float = 0.0


def kept_by_all(budget: Budget, model: MQVAE) -> int | None:
    """N of all images where the budget is fixed; None: the number that the model was made for.

    Raises:
        UserError: the MQ-VAE was trained for one N, and another one is requested; or no image can be given so few cells.
    """
    config = model.config
    budget.check_cells("tokenize.budget", config.mask_ratio, config.num_positions)
    given = None if budget.mask_ratio is None else num_kept(budget.mask_ratio, config.num_positions)
    other = budget.kind != "fixed" or given not in (None, config.num_kept)
    if other and config.kept == "fixed":
        asked = budget.kind if budget.kind != "fixed" else f"N = {given}"
        raise UserError(
            f"tokenize.budget asks for {asked}, and the MQ-VAE was trained for N = {config.num_kept} alone: set "
            "mqvae.model.kept to any and run `dvc repro`, or tokenize.budget.kind to fixed"
        )
    return given


def ladder_of(num_positions: int, rungs: int) -> list[int]:
    """Numbers of cells to try, ascending to L, in equal ratios; fewer if L is small."""
    first = fewest_cells(num_positions)
    ratio = (num_positions / first) ** (1 / (rungs - 1))
    return sorted({round(first * ratio**rung) for rung in range(rungs)})


def mean_squared(a_BCHW: torch.Tensor, b_BCHW: torch.Tensor) -> torch.Tensor:
    """Mean squared errors, of [0, 1] images, of pairs of images in [-1, 1], [B]."""
    return ((a_BCHW - b_BCHW) / 2).square().mean(dim=(1, 2, 3))


def errors_at(
    model: MQVAE,
    images: NDArray[np.uint8],
    cells: OrderedCells,
    ladder: Sequence[int],
    distance: Distance = mean_squared,
) -> NDArray[np.float64]:
    """Distances of images from their reconstructions from the n best cells, [B, R].

    Args:
        model: on the device of `cells`.
        images: uint8 [B, H, W, 3].
        cells: of these images.
        ladder: the n.
        distance: on the same device.
    """
    image_BCHW = to_tensor(images, cells.codes_BL.device)
    errors = []
    for count in ladder:
        tokens = cells.first(count)
        made_BCHW = model.decode_tokens(tokens.codes_BN, tokens.positions_BN).float().clamp(-1, 1)
        errors.append(distance(made_BCHW, image_BCHW))
    return torch.stack(errors, dim=1).double().cpu().numpy()


def decibels(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """PSNR of mean squared errors of [0, 1] images."""
    found: NDArray[np.float64] = -10 * np.log10(np.maximum(errors, LEAST_ERROR))
    return found


def quality_at_all(
    quality: NDArray[np.float64], ladder: Sequence[int], num_positions: int
) -> NDArray[np.float64]:
    """Quality at n = 1 … L, [B, L], the higher the better, from that of a ladder, [B, R]; -inf below its first rung."""
    # a quarter of a second, which a fixed number of codes need not wait for
    from scipy.interpolate import PchipInterpolator

    at_rungs = np.maximum.accumulate(quality, axis=1)
    asked = np.log(np.arange(1, num_positions + 1))
    rungs = np.log(np.asarray(ladder))
    # a cubic that is monotone where the rungs are: with straight pieces N would fall on a rung, where they bend
    curve = (
        at_rungs[:, [0] * num_positions]
        if len(ladder) == 1
        else PchipInterpolator(rungs, at_rungs, axis=1)(asked)
    )
    return np.where(asked < rungs[0], -math.inf, curve)


def chosen(plan: Plan, quality: NDArray[np.float64]) -> NDArray[np.int64]:
    """N of each image, [B], from its quality at n = 1 … L, [B, L]."""
    length, budget = quality.shape[1], plan.budget
    allowed = np.isin(np.arange(1, length + 1), budget.allowed(length))
    quality = np.where(allowed, quality, -math.inf)
    if budget.kind == "quality":
        reached = quality >= budget.goal
        found: NDArray[np.int64] = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, length)
        return found
    cost = distortions(budget, quality) + plan.multiplier * np.arange(1, length + 1)
    least: NDArray[np.int64] = cost.argmin(axis=1) + 1
    return least


def distortions(budget: Budget, quality: NDArray[np.float64]) -> NDArray[np.float64]:
    """D of a rate: mean squared errors, -PSNR or LPIPS, of qualities of any shape."""
    found: NDArray[np.float64] = np.power(10.0, -quality / 10) if budget.by == "mse" else -quality
    return found


def multiplier_for(budget: Budget, quality: NDArray[np.float64], mean: float) -> float:
    """The least λ found at which these images keep at most `mean` cells on the mean; by bisection of its logarithm."""
    low, high = -40.0, 40.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        too_many = chosen(Plan(budget, math.exp(middle)), quality).mean() > mean
        low, high = (middle, high) if too_many else (low, middle)
    return math.exp(high)


def estimated(
    model: MQVAE,
    batch: KeyedImages,
    budget: Budget,
    precision: Precision = "fp32",
    tokenize_all: Callable[..., OrderedCells] | None = None,
    lpips: Distance | None = None,
) -> tuple[OrderedCells, NDArray[np.float64]]:
    """All cells of a batch, and its quality at n = 1 … L, [B, L]; one way through the encoder, one through the decoder a rung.

    Args:
        model: on any device.
        batch: images and keys.
        budget: its ladder, and what it judges by.
        precision: of both ways.
        tokenize_all: the model's method of that name, compiled; None takes it as it is.
        lpips: the perceptual distance on the model's device, for a budget that judges by it.
    """
    weight, length = next(model.parameters()), model.config.num_positions
    ladder = ladder_of(length, budget.rungs)
    distance: Distance = mean_squared
    if budget.by == "lpips":
        assert lpips is not None
        distance = lpips
    with autocast(precision, weight.device), torch.no_grad():
        image_BCHW = to_tensor(batch.images, weight.device).to(weight.dtype)
        cells = (tokenize_all or model.tokenize_all)(image_BCHW, rankings(model, batch))
        errors = errors_at(model, batch.images, cells, ladder, distance)
    quality = -errors if budget.by == "lpips" else decibels(errors)
    return cells, quality_at_all(quality, ladder, length)


def encode_within(
    model: MQVAE,
    batch: KeyedImages,
    plan: Plan,
    precision: Precision = "fp32",
    tokenize_all: Callable[..., OrderedCells] | None = None,
    lpips: Distance | None = None,
) -> RaggedArrays:
    """Codes and positions of as many cells of each image as the plan gives it; arguments as of `estimated`."""
    cells, quality = estimated(model, batch, plan.budget, precision, tokenize_all, lpips)
    lengths = chosen(plan, quality)
    order, codes = cells.order_BL.cpu().numpy(), cells.codes_BL.cpu().numpy()
    kept = np.zeros(codes.shape, np.bool_)
    np.put_along_axis(kept, order, np.arange(codes.shape[1]) < lengths[:, None], axis=1)
    reached = np.take_along_axis(quality, lengths[:, None] - 1, axis=1)[:, 0]
    return RaggedArrays(codes[kept], np.nonzero(kept)[1], lengths, reached)


def planned(
    settings: TokenizeSettings,
    shards: ImageShards,
    model: MQVAE,
    device: torch.device,
    path: Path,
    lpips: Distance | None = None,
) -> Plan | None:
    """How many cells an image is given; None where all are given as many.

    Args:
        settings: of tokenize.
        shards: λ of a rate is found on some of their training images.
        model: the MQ-VAE.
        device: where to compute.
        path: a file that holds λ, once found, for a resumed run.
        lpips: on that device, for a budget that judges by it.
    """
    budget = settings.budget
    if budget.kind == "fixed":
        return None
    if budget.kind == "quality":
        return Plan(budget)
    if not path.is_file():
        encoder_on(model, device)
        index = shards.index("train")
        count = min(budget.estimate_images, len(index))
        rows, found = np.linspace(0, len(index) - 1, count).astype(int).tolist(), []
        batches = [rows[first : first + settings.batch] for first in range(0, count, settings.batch)]
        for batch in track(batches, "λ", "batches"):
            images = KeyedImages.of([index.read(row) for row in batch], settings.seed)
            found.append(estimated(model, images, budget, settings.precision, lpips=lpips)[1])
        mean = budget.mean_kept(model.config.mask_ratio, model.config.num_positions)
        multiplier = multiplier_for(budget, np.concatenate(found), mean)
        write_json(path, {"multiplier": multiplier})
    return Plan(budget, float(read_json(path)["multiplier"]))
