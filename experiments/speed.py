"""Images per second against the mask ratio, with and without caches (paper Figure 6 b).

Shapes: B images, N kept codes.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from models.sampling import Sampler, SamplingSettings, Truncation
from models.stackformer import Stackformer

LIKELIEST = Truncation(temperature=1.0, top_k=1, top_p=1.0)
PLAIN = Truncation(temperature=1.0, top_k=0, top_p=1.0)


@dataclass(frozen=True)
class Speed:
    """Images a second of one model, medians over repetitions.

    Attributes:
        num_kept: N, codes per image.
        cached: with keys and values kept.
        uncached: the whole past through both transformers at each step.
    """

    num_kept: int
    cached: float
    uncached: float


def sample_uncached(model: Stackformer, condition_BC: Tensor) -> tuple[Tensor, Tensor]:
    """Algorithm 1 without caches, the likeliest code and position at each step: codes and positions, int64 [B, N]."""
    config = model.config
    batch = len(condition_BC)
    codes_BN = condition_BC.new_zeros(batch, config.num_kept)
    positions_BN = condition_BC.new_zeros(batch, config.num_kept)
    for step in range(config.num_kept):
        times_MD = model.e_t.weight[config.condition_length : config.condition_length + step]
        past_BMD = model.embed(codes_BN[:, :step], positions_BN[:, :step], times_MD)
        u_c_BTD = torch.cat([model.embed_condition(condition_BC), past_BMD], dim=1)
        place_BT = F.pad(positions_BN[:, :step], (config.condition_length, 0), value=config.num_positions)
        first = config.condition_length - 1
        h_c_BMD = model.code_transformer(u_c_BTD, place_BT)[:, first:]
        codes_BN[:, step] = model.code_head(h_c_BMD[:, -1]).argmax(-1)
        if not config.network.position_layers:
            positions_BN[:, step] = step
            continue
        u_p_BMD = h_c_BMD + model.e_c(codes_BN[:, : step + 1])
        logits_BL = model.position_head(model.position_transformer(u_p_BMD, place_BT[:, first:])[:, -1])
        support_BL = model.support(positions_BN)[:, step]
        positions_BN[:, step] = logits_BL.masked_fill(~support_BL, -math.inf).argmax(-1)
    return codes_BN, positions_BN


@torch.inference_mode()
def measure(folder: Path, batch: int, repetitions: int) -> Speed:
    """Time a trained Stackformer on the CPU, one thread, alternating between the two ways.

    Args:
        folder: a Stackformer artifact without conditions.
        batch: images at a time.
        repetitions: of each way, after one that is not counted.
    """
    torch.set_num_threads(1)
    model = Stackformer.from_pretrained(folder)
    condition_BC = torch.zeros(batch, model.config.condition_length, dtype=torch.int64)
    sampler = Sampler(model, batch, SamplingSettings(guidance_scale=1.0, code=PLAIN, position=PLAIN))
    ways: list[Callable[[], object]] = [
        lambda: sampler(condition_BC, list(range(batch))),
        lambda: sample_uncached(model, condition_BC),
    ]
    seconds: list[list[float]] = [[], []]
    for repetition in range(repetitions + 1):
        for way, found in zip(ways, seconds, strict=True):
            began = time.process_time()
            way()
            if repetition:
                found.append(time.process_time() - began)
    rates = [batch / sorted(found)[len(found) // 2] for found in seconds]
    return Speed(model.config.num_kept, rates[0], rates[1])
