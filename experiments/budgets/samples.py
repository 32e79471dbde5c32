"""Stackformers on tokens of one N and of lengths by λ: nats per image, and samples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import ks_2samp

from evaluation.features.extractors import load_extractor
from evaluation.features.reference import Reference
from experiments.budgets.gains import Lengths, spread_of
from experiments.budgets.made import Made, Training
from experiments.budgets.nats import held_out, spent
from inference.sampling.conditions import conditions_of
from models.base.published import StackformerFacts
from models.mqvae import MQVAE
from models.sampling import SamplingSettings, StoppingSampler, Truncation
from models.stackformer import Stackformer
from settings.sample import SampleSettings
from shards.images.pixels import to_uint8
from shards.samples import SampleFacts
from shards.tokens import TokenShards
from workspace.exact.manifest import Manifest, facts_of, read_manifest
from workspace.exact.seeds import sample_seed

STEPS, IMAGES = 500, 900
LENGTHS_OF, BATCH = 500, 100
"""Samples whose lengths are counted."""
SCORES = ("proxy_fd", "proxy_fd_low", "proxy_fd_high", "proxy_accuracy", "shape_fit")
PLAIN = SamplingSettings(1.0, Truncation(1.0, 0, 1.0), Truncation(1.0, 0, 1.0))
"""The model's own distribution."""


def sampled(
    made: Made, training: Training, name: str, budget: Mapping[str, Any], seed: int = 0
) -> dict[str, Any]:
    """Tokens, a Stackformer and samples of an MQ-VAE: nats of held-out images, scores and lengths of the samples.

    Args:
        made: where they are.
        training: the MQ-VAE's.
        name: the tokens', in the working folder.
        budget: keys and values of tokenize.budget.
        seed: of the Stackformer and the samples.
    """
    own, folder = f"{training.folder}-{name}", made.mqvae_folder(training)
    options = [f"tokenize.budget.{key}={value}" for key, value in budget.items()]
    inputs = {"shards": made.shards(training.data), "mqvae": folder}
    flips = "tokenize.augmentations=[{flip: false}]"
    tokens = made.run("tokenize", f"{own}-tokens", *options, flips, inputs=inputs)
    settings = (
        f"stackformer.steps={STEPS}",
        f"stackformer.validate_every={STEPS}",
        f"stackformer.seed={seed}",
    )
    stackformer = made.run("train_stackformer", f"{own}-{seed}", *settings, inputs={"tokens": tokens})
    models = {"stackformer": stackformer, "mqvae": folder}
    asked = (f"sample.num_images={IMAGES}", f"sample.seed={seed}")
    samples = made.run("sample", f"{own}-{seed}-samples", *asked, inputs=models)
    scored = {"samples": samples, "reference": made.reference(training.data)}
    made.run("evaluate", f"{own}-{seed}-scores", inputs=scored)
    judged = made.metrics(f"{own}-{seed}-scores")
    lengths, facts = lengths_of(tokens), read_manifest(samples, "samples")
    return {
        "budget": dict(budget),
        "seed": seed,
        **spread_of(lengths),
        "of_samples": lengths_against(lengths, stackformer, facts, guided=True),
        "of_plain_samples": lengths_against(lengths, stackformer, facts, guided=False),
        **spent(stackformer, tokens).means,
        "reconstructions_recognised": recognised(stackformer, folder, tokens, made.reference(training.data)),
        **{key: round(judged[key], 4) for key in SCORES if key in judged},
    }


@torch.no_grad()
def recognised(stackformer: Path, mqvae: Path, tokens: Path, reference: Path) -> float:
    """The share of held-out images whose class the proxy names in what the tokens show: the most that samples may reach."""
    model, split = MQVAE.from_pretrained(mqvae), TokenShards.open(tokens).load("val")
    proxy, classes = load_extractor(reference, torch.device("cpu")), Reference.open(reference).facts.classes
    head = next(name for name, values in proxy.heads.items() if tuple(values) == tuple(classes or ()))
    right = 0
    for batch in held_out(split, Stackformer.from_pretrained(stackformer).config):
        images = to_uint8(model.decode_tokens(batch.codes_BN, batch.positions_BN).numpy())
        found = proxy(images).logits[head].argmax(axis=1)
        right += int((found == batch.condition_BC[:, 0].numpy()).sum())
    return round(right / len(split), 4)


def lengths_of(tokens: Path) -> Lengths:
    """Codes of each held-out image."""
    lengths = TokenShards.open(tokens).load("val").lengths
    return np.asarray(lengths, np.int64)


def lengths_against(
    lengths: Lengths, stackformer: Path, samples: Manifest, guided: bool
) -> dict[str, Any] | None:
    """Lengths of samples, and the largest distance of their distribution function from that of the data's.

    Args:
        lengths: of held-out images.
        stackformer: the model.
        samples: the manifest of its samples, for their conditions and seeds.
        guided: as those samples were drawn; else neither guided nor truncated.

    Returns:
        Kolmogorov-Smirnov's statistic and its p (too high for whole numbers), with the spread; None where all have N codes.
    """
    drawn = drawn_lengths(stackformer, samples, guided)
    if drawn is None:
        return None
    test = ks_2samp(lengths, drawn)
    return {
        **spread_of(drawn),
        "count": len(drawn),
        "ks": round(float(test.statistic), 4),
        "ks_p": round(float(test.pvalue), 4),
    }


def drawn_lengths(folder: Path, samples: Manifest, guided: bool) -> Lengths | None:
    """Codes of the first samples, which are drawn again with the stage's seeds; None where all have N."""
    model = Stackformer.from_pretrained(folder).eval()
    if not model.config.stops:
        return None
    settings = SampleSettings.model_validate(facts_of(SampleFacts, samples).settings)
    given = SamplingSettings(settings.guidance_scale, settings.code, settings.position) if guided else PLAIN
    conditions = conditions_of(
        settings, facts_of(StackformerFacts, read_manifest(folder, "stackformer")), folder
    )
    draw, found = StoppingSampler(model, BATCH, given), []
    for first in range(0, LENGTHS_OF, BATCH):
        indices = range(first, first + BATCH)
        seeds = [sample_seed(settings.seed, 0, index, "sample") for index in indices]
        positions_BN = draw(conditions.tensor(indices), seeds).positions_BN
        found.append((positions_BN < model.config.num_positions).sum(1).numpy())
    return np.concatenate(found)
