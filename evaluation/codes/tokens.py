"""What a token set is like: how many images, how its codes are used, what it costs in bits.

A record is what a worker reports of one shard: split, images, bytes, seconds, code_counts, and where images have different
numbers of codes their lengths, the mean of the estimated quality, and how many missed the one that was asked for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.codes.codebook import perplexity, usage
from evaluation.codes.rate import PLACES, raw_code_bits, raw_position_bits
from evaluation.protocol import Score
from shards.tokens import TokenFacts

Records = Sequence[Mapping[str, Any]]
GOALS = {
    "psnr": ("tokenize.budget.psnr", "{:g} dB", "lower"),
    "lpips": ("tokenize.budget.distance", "LPIPS {:g}", "raise"),
}
"""Kind of goal → its setting, how it is written, what makes it easier."""


def token_scores(facts: TokenFacts, records: Records, workers: int) -> dict[str, Score]:
    """Number of images, images per second over all workers, codebook use by the training images, bytes per image."""
    counts = np.sum([job["code_counts"] for job in records if job["split"] == "train"], axis=0)
    images, stored = sum(facts.counts.values()), sum(job["bytes"] for job in records)
    rate = images * workers / sum(job["seconds"] for job in records)
    cells = facts.grid[0] * facts.grid[1]
    lengths = [number for job in records for number in job.get("lengths", [])] or [facts.num_kept]
    kept = sum(lengths) / len(lengths)
    places = [raw_position_bits(number, cells, facts.same_places) for number in lengths]
    values = {
        "images": (images, "copies included"),
        **{f"images_{split}": (count, "copies included") for split, count in facts.counts.items()},
        "images_per_second": (rate, "of all workers together, reading and writing included"),
        "codebook_usage": (usage(counts), "share of the codes chosen at least once by the training images"),
        "codebook_perplexity": (perplexity(counts), "exp entropy of the codes' frequencies, training images"),
        "bytes_per_image": (stored / images, "size of the tars, images of both splits"),
        "code_bits_per_image_raw": (raw_code_bits(kept, facts.num_codes), "N log₂ K"),
        "position_bits_per_image_raw": (sum(places) / len(places), PLACES[facts.same_places]),
    }
    return {name: Score(float(value), words) for name, (value, words) in values.items()}


def scores_of_budget(
    records: Records, by: str, goal: float | None, multiplier: float | None
) -> dict[str, Score]:
    """How many codes the training images were given, and what for.

    Args:
        records: of each shard.
        by: what reconstructions are judged by: mse, psnr, lpips.
        goal: decibels or LPIPS that each image was to reach, if it was.
        multiplier: λ, if there is one.
    """
    train = [job for job in records if job["split"] == "train"]
    lengths = np.concatenate([job["lengths"] for job in train])
    images = [job["images"] for job in train]
    quality = float(np.average([job["quality"] for job in train], weights=images))
    between = "interpolated between the rungs, mean of the same"
    values = {
        "codes_per_image": (lengths.mean(), "mean N, training images"),
        "codes_per_image_deviation": (lengths.std(), "standard deviation of N, the same"),
    }
    if by == "lpips":
        values["lpips_estimated"] = (-quality, f"LPIPS, {between}")
    else:
        values["psnr_estimated"] = (quality, f"decibels, {between}")
    if goal is not None:
        share = sum(job["missed"] for job in train) / sum(images)
        values["quality_missed"] = (
            share,
            f"share of the same that all cells do not bring to {GOALS[by][1].format(goal)}",
        )
    if multiplier is not None:
        values["rate_multiplier"] = (multiplier, f"λ, {by} per cell")
    return {name: Score(float(value), words) for name, (value, words) in values.items()}


def missed(records: Records, by: str, goal: float | None, num_positions: int) -> list[str]:
    """Lines to print where images do not reach the quality that was asked for; both splits."""
    short, images = sum(job.get("missed", 0) for job in records), sum(job["images"] for job in records)
    if goal is None or not short:
        return []
    setting, _, easier = GOALS[by]
    return [
        f"{short:,} of {images:,} images do not reach {setting} {goal:g}, and keep all {num_positions} cells: "
        f"{easier} it, or train the MQ-VAE for longer"
    ]
