"""Shared by the items of phase b: small models, distances, and verdicts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from benchmarks.gpu.phase import Place
from benchmarks.mqvae_made import SMALL
from models.mqvae import MQVAEConfig
from models.sampling import SamplingSettings, Truncation
from models.stackformer import NetworkConfig, StackformerConfig

SHARP = SamplingSettings(1.7, Truncation(0.9, 0, 0.9), Truncation(0.9, 0, 0.9))


def mqvae_config(place: Place) -> MQVAEConfig:
    """The paper's network at f8, 64 pixels, half its width."""
    return (
        replace(SMALL, image_size=32, channels=8, code_dim=8, num_codes=16, demask_blocks=2)
        if place.tiny
        else SMALL
    )


def stackformer_config(place: Place, **changes: Any) -> StackformerConfig:
    """A small one whose sequence crosses several buckets."""
    network = (
        NetworkConfig(32, 2, 1, 1, 0.0, "ascending")
        if place.tiny
        else NetworkConfig(256, 4, 4, 2, 0.0, "ascending")
    )
    length, kept = (16, 9) if place.tiny else (128, 96)
    return replace(StackformerConfig(network, 512, length, kept, "class", 1, 5), **changes)


def distance(a: Tensor, b: Tensor) -> float:
    """‖a - b‖ / ‖b‖ in float64; NaN where either has one."""
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    return float((a - b).norm() / b.norm().clamp_min(1e-30))


def judged(found: Mapping[str, float], bounds: Mapping[str, float]) -> dict[str, Any]:
    """The numbers, their bounds, and whether each is within; NaN is not."""
    ok = all(found[name] <= bound for name, bound in bounds.items())
    return {**found, "bounds": dict(bounds), "ok": ok}
