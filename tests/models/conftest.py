"""Small Stackformers and sequences for them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.stackformer import NetworkConfig, Stackformer, StackformerConfig

Sequences = tuple[Tensor, Tensor, Tensor]


def small_config(**changes: object) -> StackformerConfig:
    """Six codes at 4 of 9 positions, unless changed; fields of the network and of the rest alike."""
    network = {
        "width": 8,
        "heads": 2,
        "code_layers": 2,
        "position_layers": 1,
        "dropout": 0.0,
        "position_support": "ascending",
        "block": "gpt",
    }
    rest = {
        "num_codes": 6,
        "num_positions": 9,
        "num_kept": 4,
        "condition": "class",
        "condition_length": 1,
        "condition_vocab": 3,
    }
    network |= {name: value for name, value in changes.items() if name in network}
    rest |= {name: value for name, value in changes.items() if name in rest}
    return StackformerConfig(network=NetworkConfig(**network), **rest)  # type: ignore[arg-type]


@pytest.fixture
def build() -> Callable[..., Stackformer]:
    """Builds a float64 model in eval mode with weights large enough that every part matters."""

    def make(seed: int = 0, **changes: object) -> Stackformer:
        torch.manual_seed(seed)
        model = Stackformer(small_config(**changes)).double().eval()
        for weight in model.parameters():
            weight.data.add_(0.3 * torch.randn_like(weight))
        return model

    return make


@pytest.fixture
def sequences() -> Callable[..., Sequences]:
    """Draws codes [B, N], ascending positions [B, N] and conditions [B, N_c] for a model."""

    def draw(model: Stackformer, batch: int = 3, seed: int = 1) -> Sequences:
        config = model.config
        generator = torch.Generator().manual_seed(seed)
        codes = torch.randint(config.num_codes, (batch, config.num_kept), generator=generator)
        ranks = torch.rand(batch, config.num_positions, generator=generator)
        positions = ranks.argsort(dim=1)[:, : config.num_kept].sort(dim=1).values
        condition = torch.randint(
            config.condition_vocab, (batch, config.condition_length), generator=generator
        )
        return codes, positions, condition

    return draw
