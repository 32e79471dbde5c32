"""How many cells the images of a step keep, for an MQ-VAE of any number of cells.

An image's numbers depend on its seed of the epoch alone, so no `micro_batch` and no number of workers changes them. Several of
one image lie in equal steps of their distribution: there is a small one and a large one in each step.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.mqvae import MQVAEConfig
from models.mqvae.masker import drawn_count
from settings.mqvae import MQVAESettings
from workspace.exact.seeds import hashed_unit


def draws_of(config: MQVAEConfig, settings: MQVAESettings) -> int:
    """M, reconstructions of each image in a step."""
    return 1 if config.kept == "fixed" else settings.kept_draws


def drawn_counts(seeds: Sequence[int], config: MQVAEConfig, settings: MQVAESettings) -> Tensor | None:
    """Numbers of cells in 1 … L, int64 [B · M], those of an image one after the other; None if all keep N."""
    if config.kept == "fixed":
        return None
    steps = [draw / settings.kept_draws for draw in range(settings.kept_draws)]
    units = [(hashed_unit(seed, "kept") + step) % 1 for seed in seeds for step in steps]
    return torch.tensor([drawn_count(unit, config.num_positions, settings.kept_power) for unit in units])
