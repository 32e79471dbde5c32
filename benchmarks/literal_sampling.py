"""Algorithm 1 as it is usually coded: nothing is kept, every step runs both transformers on the whole prefix, twice.

Once for the code and once for its position, as the published sampler does. What `models.sampling.Sampler` is measured against.

Shapes: B images, C conditions, n codes so far, D width, K codes, L positions.
"""

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.sampling import PositionMemory, Sampled, SamplingSettings, draw, draw_uniform
from models.stackformer import Stackformer
from models.stackformer.model import at_least_fp32


def both_transformers(
    model: Stackformer, codes_Bn: Tensor, positions_Bm: Tensor, condition_BC: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Logits of every step of a prefix: codes, and positions of the codes that are there.

    No positions before the first code, nor from a model that has no Position-Transformer.

    Args:
        model: in eval mode.
        codes_Bn: the codes so far.
        positions_Bm: their positions; of the last code it may be missing.
        condition_BC: the conditions.
    """
    fed = positions_Bm.shape[1]
    first = model.config.condition_length
    past_BmD = model.embed(codes_Bn[:, :fed], positions_Bm, model.e_t.weight[first : first + fed])
    place_BT = F.pad(positions_Bm, (first, 0), value=model.config.num_positions)
    h_c = model.code_transformer(torch.cat([model.embed_condition(condition_BC), past_BmD], dim=1), place_BT)
    h_c = h_c[:, first - 1 :]
    code_logits = at_least_fp32(model.code_head(h_c))
    if not codes_Bn.shape[1] or not model.config.network.position_layers:
        return code_logits, None
    known = codes_Bn.shape[1]
    u_p_BnD = h_c[:, :known] + model.e_c(codes_Bn)
    place_Bn = place_BT[:, first - 1 : first - 1 + known]
    return code_logits, at_least_fp32(model.position_head(model.position_transformer(u_p_BnD, place_Bn)))


@torch.no_grad()
def sample_by_recomputation(
    model: Stackformer, condition_BC: Tensor, seeds: Sequence[int], settings: SamplingSettings
) -> Sampled:
    """The draws of `models.sampling.sample`, unguided."""
    batch, kept = len(seeds), model.config.num_kept
    uniform_BN2 = draw_uniform(seeds, kept)
    memory = PositionMemory(model.config, batch, condition_BC.device)
    codes = torch.zeros(batch, 0, dtype=torch.int64)
    positions = codes
    for n in range(kept):
        logits_BK = both_transformers(model, codes, positions, condition_BC)[0][:, -1]
        codes = torch.cat([codes, draw(logits_BK, settings.code, uniform_BN2[:, n, 0])[:, None]], dim=1)
        _, logits_BnL = both_transformers(model, codes, positions, condition_BC)
        assert logits_BnL is not None
        logits_BL = logits_BnL[:, -1].masked_fill(~memory.support(), -math.inf)
        position_B = draw(logits_BL, settings.position, uniform_BN2[:, n, 1])
        memory.take(position_B)
        positions = torch.cat([positions, position_B[:, None]], dim=1)
    return Sampled(codes, positions)


@torch.no_grad()
def seconds_by_recomputation(
    model: Stackformer, condition_BC: Tensor, settings: SamplingSettings, knots: Sequence[int]
) -> float:
    """Seconds of a whole run, from single steps timed at a few prefix lengths and summed along the line between them.

    A step's work is linear in the prefix but for attention, whose share is at most N / 6D: the lines lie
    a little above the curve between knots, by under 1 % of the sum at N = 192, D = 512.
    """
    batch, kept = len(condition_BC), model.config.num_kept
    uniform_B = torch.full((batch,), 0.5, dtype=torch.float64)
    taken = []
    for n in knots:
        codes_Bn = torch.randint(model.config.num_codes, (batch, n + 1))
        positions_Bn = torch.arange(n).expand(batch, n)
        began = time.perf_counter()
        logits_BnK, _ = both_transformers(model, codes_Bn[:, :n], positions_Bn, condition_BC)
        draw(logits_BnK[:, -1], settings.code, uniform_B)
        if model.config.network.position_layers:
            _, logits_BnL = both_transformers(model, codes_Bn, positions_Bn, condition_BC)
            assert logits_BnL is not None
            draw(logits_BnL[:, -1], settings.position, uniform_B)
        taken.append(time.perf_counter() - began)
    return float(np.interp(np.arange(kept), knots, taken).sum())
