"""Stackformer's equations and Algorithm 1 written out with loops, one float64 vector at a time.

Sequences are the paper's: conditions, then codes; every condition sits at <sos>. Indices are 0-based.
"""

import math

import torch
from torch import Tensor

from models.sampling import SamplingSettings, Truncation, draw_uniform
from models.stackformer import Stackformer
from models.stackformer.transformer import LONGEST_TURN, ModernTransformer, Transformer


def literal_transformer(
    transformer: Transformer | ModernTransformer, u_TD: Tensor, places: list[int], cells: int
) -> Tensor:
    """A stack of blocks, causal, head by head and token by token; the tokens' places, `cells` for <sos>."""
    if isinstance(transformer, ModernTransformer):
        return literal_modern(transformer, u_TD, places, cells)
    for block in transformer.blocks:
        attention = block.attention
        width = u_TD.shape[1]
        size = width // attention.heads
        qkv = attention.to_qkv(block.attention_norm(u_TD))
        q, k, v = qkv[:, :width], qkv[:, width : 2 * width], qkv[:, 2 * width :]
        heard = torch.zeros_like(u_TD)
        for head in range(attention.heads):
            part = slice(head * size, (head + 1) * size)
            for t in range(len(u_TD)):
                weights = torch.softmax(
                    torch.stack([q[t, part] @ k[s, part] / math.sqrt(size) for s in range(t + 1)]), 0
                )
                heard[t, part] = sum(weights[s] * v[s, part] for s in range(t + 1))
        u_TD = u_TD + attention.to_out(heard)
        u_TD = u_TD + block.narrow(torch.nn.functional.gelu(block.widen(block.mlp_norm(u_TD))))
    return transformer.norm(u_TD)


def literal_norm(x: Tensor) -> Tensor:
    """x over its root mean square."""
    return x / (x.square().mean() + torch.finfo(x.dtype).eps).sqrt()


def literal_turn(x: Tensor, place: int, cells: int) -> Tensor:
    """Rotary: pairs (e, e + E/2); the first half of the pairs turns by the row of the place, the second by its column."""
    side = math.isqrt(cells)
    side = side if side * side == cells else cells
    row, column = (-1, -1) if place == cells else divmod(place, side)
    pairs = len(x) // 2
    out = x.clone()
    for e in range(pairs):
        half = pairs // 2
        angle = (row if e < half else column) / LONGEST_TURN ** ((e % half) / half)
        cos, sin = (
            float(torch.tensor(f(angle), dtype=torch.float32)) for f in (math.cos, math.sin)
        )  # kept in fp32
        out[e] = x[e] * cos - x[e + pairs] * sin
        out[e + pairs] = x[e] * sin + x[e + pairs] * cos
    return out


def literal_modern(transformer: ModernTransformer, u_TD: Tensor, places: list[int], cells: int) -> Tensor:
    """RMSNorm, QK-norm, rotary places, values mixed with the first block's, squared ReLU."""
    x_TD = torch.stack([literal_norm(u) for u in u_TD])
    first: list[Tensor] | None = None
    for block in transformer.blocks:
        width = x_TD.shape[1]
        size = width // block.heads
        qkv = [block.to_qkv(literal_norm(x)) for x in x_TD]
        values = [row[2 * width :] for row in qkv]
        first = first or values
        if first is not values:
            values = [
                block.mix_2[0] * own + block.mix_2[1] * of_first
                for own, of_first in zip(values, first, strict=True)
            ]
        heard = torch.zeros_like(x_TD)
        for head in range(block.heads):
            part = slice(head * size, (head + 1) * size)
            q = [
                literal_turn(literal_norm(row[:width][part]), at, cells)
                for row, at in zip(qkv, places, strict=True)
            ]
            k = [
                literal_turn(literal_norm(row[width : 2 * width][part]), at, cells)
                for row, at in zip(qkv, places, strict=True)
            ]
            for t in range(len(x_TD)):
                weights = torch.softmax(torch.stack([q[t] @ k[s] / math.sqrt(size) for s in range(t + 1)]), 0)
                heard[t, part] = sum(weights[s] * values[s][part] for s in range(t + 1))
        x_TD = x_TD + block.to_out(heard)
        hidden = torch.stack([block.widen(literal_norm(x)) for x in x_TD])
        x_TD = x_TD + block.narrow(torch.relu(hidden) ** 2)
    return torch.stack([literal_norm(x) for x in x_TD])


def literal_u_c(model: Stackformer, condition: list[int], codes: list[int], positions: list[int]) -> Tensor:
    """Eq. 10: code + position + absolute embedding, token by token, for the conditions and the codes."""
    K, sos = model.config.num_codes, model.config.num_positions
    sequence = [K + c for c in condition] + codes
    places = [sos] * len(condition) + positions
    tokens = [
        model.e_c.weight[code] + model.e_p.weight[place] + model.e_t.weight[t]
        for t, (code, place) in enumerate(zip(sequence, places, strict=True))
    ]
    return torch.stack(tokens)


def literal_code_logits(
    model: Stackformer, condition: list[int], codes: list[int], positions: list[int]
) -> Tensor:
    """Logits of the code after the ones given."""
    return model.code_head(literal_h_c(model, condition, codes, positions)[-1])


def literal_h_c(model: Stackformer, condition: list[int], codes: list[int], positions: list[int]) -> Tensor:
    """What the Code-Transformer makes of the conditions and the codes given."""
    cells = model.config.num_positions
    u_c = literal_u_c(model, condition, codes, positions)
    return literal_transformer(model.code_transformer, u_c, [cells] * len(condition) + positions, cells)


def literal_position_logits(
    model: Stackformer, condition: list[int], codes: list[int], positions: list[int]
) -> Tensor:
    """Logits, not masked, of the last code's position (Eq. 12); one position fewer than codes."""
    h_c, cells = literal_h_c(model, condition, codes[:-1], positions), model.config.num_positions
    first = len(condition) - 1
    u_p = torch.stack([h_c[first + n] + model.e_c.weight[code] for n, code in enumerate(codes)])
    return model.position_head(
        literal_transformer(model.position_transformer, u_p, [cells, *positions], cells)[-1]
    )


def literal_support(model: Stackformer, positions: list[int]) -> list[bool]:
    """Where the next code may sit."""
    L, N = model.config.num_positions, model.config.num_kept
    n = len(positions) + 1
    if model.config.network.position_support == "unused":
        return [p not in positions for p in range(L)]
    previous = positions[-1] if positions else -1
    return [previous < p <= L - 1 - (N - n) for p in range(L)]


def masked(logits: Tensor, support: list[bool]) -> Tensor:
    """-inf where not supported."""
    return torch.stack(
        [
            value if ok else torch.tensor(-math.inf).to(value)
            for value, ok in zip(logits, support, strict=True)
        ]
    )


def literal_choice(logits: Tensor, truncation: Truncation, uniform: float) -> int:
    """Temperature, top-k, top-p, then the first entry at which the running sum passes `uniform`."""
    values = logits.detach().double()
    order = [i for i in sorted(range(len(values)), key=lambda i: -float(values[i])) if values[i] > -math.inf]
    if truncation.top_k:
        order = order[: truncation.top_k]
    chances = torch.softmax(values[order] / truncation.temperature, 0).tolist()
    kept, mass = [], 0.0
    for i, chance in zip(order, chances, strict=True):
        if mass >= truncation.top_p:
            break
        kept.append((i, chance))
        mass += chance
    running = 0.0
    for i, chance in kept:
        running += chance
        if running > uniform * mass:
            return i
    return kept[-1][0]


def literal_algorithm_1(
    model: Stackformer, condition: list[int], seed: int, settings: SamplingSettings
) -> tuple[list[int], list[int]]:
    """One image: full recomputation at every step."""
    null = [model.config.null_code] * len(condition)
    uniform = draw_uniform([seed], model.config.num_kept)[0]
    codes: list[int] = []
    positions: list[int] = []
    for n in range(model.config.num_kept):
        free = literal_code_logits(model, null, codes, positions)
        logits = free + settings.guidance_scale * (
            literal_code_logits(model, condition, codes, positions) - free
        )
        codes.append(literal_choice(logits, settings.code, float(uniform[n, 0])))
        free = literal_position_logits(model, null, codes, positions)
        logits = free + settings.guidance_scale * (
            literal_position_logits(model, condition, codes, positions) - free
        )
        logits = masked(logits, literal_support(model, positions))
        positions.append(literal_choice(logits, settings.position, float(uniform[n, 1])))
    return codes, positions
