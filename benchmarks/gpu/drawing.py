"""The sampling items of phase b: captured steps against single ones, fused kernels against single operations."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.judging import SHARP, distance, stackformer_config
from benchmarks.gpu.phase import Place
from benchmarks.row_03_training_gpu import random_batch
from models.sampling import CachedStackformer, Sampler
from models.stackformer import Stackformer, StackformerConfig


def graphs(place: Place) -> dict[str, Any]:
    """Captured steps draw the tokens that steps launched one by one draw, whatever the condition, the support, or the sizes."""
    device, batch = torch.device(place.device), 3
    kinds: dict[str, Callable[[], StackformerConfig]] = {
        "class": lambda: stackformer_config(place),
        "text": lambda: stackformer_config(place, condition="text", condition_length=7, condition_vocab=50),
        "unused": lambda: with_network(stackformer_config(place), position_support="unused"),
        "modern": lambda: with_network(stackformer_config(place), block="modern"),
        "many_codes": lambda: stackformer_config(place, num_codes=5000),  # sorted otherwise than up to 4,096
    }
    found: dict[str, Any] = {}
    for name, kind in kinds.items():
        for dtype in (torch.float32,) if place.tiny else (torch.float32, torch.bfloat16):
            same, captured = as_eager(kind(), dtype, device, batch)
            found[f"{name}_{str(dtype).removeprefix('torch.')}"] = same
            found["captured"] = found.get("captured", True) and captured
    needed = (
        found
        if place.device == "cuda"
        else {name: same for name, same in found.items() if name != "captured"}
    )
    return found | {"ok": all(needed.values())}


def with_network(config: StackformerConfig, **changes: Any) -> StackformerConfig:
    """The same with another network."""
    return replace(config, network=replace(config.network, **changes))


def as_eager(
    config: StackformerConfig, dtype: torch.dtype, device: torch.device, batch: int
) -> tuple[bool, bool]:
    """Whether two batches of captured steps are those of eager ones, and whether steps were captured at all."""
    torch.manual_seed(0)
    model = Stackformer(config).eval().to(device, dtype)
    condition = torch.arange(batch * config.condition_length).reshape(batch, -1) % config.condition_vocab
    fast = Sampler(model, batch, SHARP)
    plain = Sampler(model, batch, SHARP, bucket=64 if device.type == "cuda" else None, capture=False)
    same = True
    for first in (0, batch):
        mine, theirs = (sampler(condition, range(first, first + batch)) for sampler in (fast, plain))
        same &= torch.equal(mine.codes_BN, theirs.codes_BN) and torch.equal(
            mine.positions_BN, theirs.positions_BN
        )
    return same, fast.captures


@torch.no_grad()
def fused(place: Place) -> dict[str, Any]:
    """Logits of the fused kernels along given tokens are at least as near to fp32's as those of single operations in bf16."""
    if place.device != "cuda":
        return {"left_out": "the kernels run on GPUs alone; tests/models/test_kernels.py interprets them"}
    found: dict[str, float] = {}
    for batch in (1, 3, 70):
        config = replace(stackformer_config(place), condition_vocab=70)
        torch.manual_seed(0)
        model, tokens = Stackformer(config).eval().to("cuda"), random_batch(config, batch)
        with torch.no_grad():
            for weight in model.parameters():  # far from the small numbers of its start
                weight.add_(0.05 * torch.randn_like(weight))
        exact = forced_logits(model, tokens, False)
        low = model.bfloat16()
        for name, way in (("fused", True), ("plain", False)):
            found[f"{name}_{batch}"] = distance(forced_logits(low, tokens, way), exact)
    ok = all(found[f"fused_{batch}"] <= 1.1 * found[f"plain_{batch}"] for batch in (1, 3, 70))
    return found | {"ok": ok}


def forced_logits(model: Stackformer, tokens: Any, fused: bool) -> Tensor:
    """Logits of codes and positions at every step of given tokens."""
    scale = 1.0 if len(tokens) == 1 else 1.5  # one row, and twice as many rows as images
    state = CachedStackformer(model, len(tokens), scale, bucket=64, fused=fused)
    state.start(tokens.condition_BC.cuda())
    codes_BN, positions_BN = tokens.codes_BN.cuda(), tokens.positions_BN.cuda()
    logits = []
    for step in range(codes_BN.shape[1]):
        logits += [state.code_logits(), state.position_logits(codes_BN[:, step])]
        if step + 1 < codes_BN.shape[1]:
            state.advance(codes_BN[:, step], positions_BN[:, step])
    return torch.cat([part.float() for part in logits], dim=1)
