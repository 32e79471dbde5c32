"""Small models with random weights, published as the report reads them."""

from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch.nn import Module

from models.base.published import MQVAEFacts, StackformerFacts
from models.mqvae import MQVAE, MQVAEConfig
from models.mqvae.quantizer import QuantizerConfig
from models.stackformer import NetworkConfig, Stackformer, StackformerConfig
from workspace.exact.manifest import write_manifest

SIZE, GRID, KEPT, CODES = 32, 8, 32, 128
QUANTIZER = QuantizerConfig("ema", "straight_through", 0.99, 0.25, 0, 0.1)
DECODER = MQVAEConfig(
    SIZE, 2, 8, (1, 2), 1, False, 16, CODES, "adaptive", 0.5, 8, "dcsa_update", 1, QUANTIZER
)
NETWORK = NetworkConfig(16, 2, 2, 1, 0.0, "ascending")
M = TypeVar("M", bound=Module)


def lively(model: M, seed: int) -> M:
    """The model, with weights large enough that every part matters."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.data.add_(0.2 * torch.randn(weight.shape, generator=generator))
    return model.eval()


def write_models(art: Path, classes: tuple[str, ...]) -> None:
    """An MQ-VAE and a Stackformer of these classes, or of none."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    mqvae = lively(MQVAE(DECODER), 0)
    spread = rng.normal(size=(CODES, 3)) @ rng.normal(size=(3, 16)) + rng.normal(0, 0.3, (CODES, 16))
    weights = {
        "quantizer.codebook_KD": torch.from_numpy(spread),
        "quantizer.count_K": torch.from_numpy(rng.gamma(0.7, 10, CODES)),
    }
    mqvae.load_state_dict(mqvae.state_dict() | weights)
    mqvae.save_pretrained(art / "mqvae")
    facts = MQVAEFacts(
        grid=(GRID, GRID), num_kept=KEPT, num_codes=CODES, image_size=SIZE, parameters=897123, steps=60
    )
    write_manifest(art / "mqvae", "mqvae", asdict(facts), {})
    config = StackformerConfig(
        NETWORK, CODES, GRID * GRID, KEPT, "class" if classes else "none", 1, max(1, len(classes))
    )
    lively(Stackformer(config), 1).save_pretrained(art / "stackformer")
    learned = StackformerFacts(
        grid=(GRID, GRID),
        num_kept=KEPT,
        num_codes=CODES,
        condition=config.condition,
        classes=classes or None,
        mqvae="9f2c" * 16,
        parameters=851968,
        steps=120,
    )
    write_manifest(art / "stackformer", "stackformer", asdict(learned), {})
