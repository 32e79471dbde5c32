"""Stackformers on tokens of one N and of lengths by λ: nats per image, and samples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.budgets.gains import Lengths, spread_of
from experiments.budgets.made import Made, Training
from inference.sampling.conditions import conditions_of
from models.base.published import StackformerFacts
from models.sampling import SamplingSettings, StoppingSampler
from models.stackformer import Stackformer
from settings.sample import SampleSettings
from shards.samples import SampleFacts
from shards.tokens import TokenShards
from workspace.exact.manifest import Manifest, facts_of, read_manifest
from workspace.exact.seeds import sample_seed

STEPS, IMAGES = 500, 900
LENGTHS_OF, BATCH = 300, 100
"""Samples whose lengths are counted."""
NUMBERS = ("nats_per_image", "code_nats_per_image", "position_nats_per_image")
SCORES = ("proxy_fd", "proxy_accuracy", "shape_fit")


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
    learned, judged = made.metrics(f"{own}-{seed}"), made.metrics(f"{own}-{seed}-scores")
    drawn = drawn_lengths(stackformer, read_manifest(samples, "samples"))
    return {
        "budget": dict(budget),
        "seed": seed,
        **spread_of(lengths_of(tokens)),
        "of_samples": None if drawn is None else spread_of(drawn),
        **{key: round(learned[key], 3) for key in NUMBERS},
        **{key: round(judged[key], 4) for key in SCORES if key in judged},
    }


def lengths_of(tokens: Path) -> Lengths:
    """Codes of each held-out image."""
    lengths = TokenShards.open(tokens).load("val").lengths
    return np.asarray(lengths, np.int64)


def drawn_lengths(folder: Path, samples: Manifest) -> Lengths | None:
    """Codes of the first samples, which are drawn again as the stage drew them; None where all have N."""
    model = Stackformer.from_pretrained(folder).eval()
    if not model.config.stops:
        return None
    settings = SampleSettings.model_validate(facts_of(SampleFacts, samples).settings)
    given = SamplingSettings(settings.guidance_scale, settings.code, settings.position)
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
