"""Adapts a Stackformer's embedding tables to other tokens: shared rows are copied, positions interpolated, the rest is new.

A table consists of parts with a meaning: codes, conditions, positions, places in the sequence. Other classes, another number of
codes or another grid change only the number of rows of a part, and no other weight.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.stackformer.config import StackformerConfig

Spread = Literal["none", "line", "grid"]


@dataclass(frozen=True)
class Part:
    """Rows of a table with a common meaning.

    Attributes:
        name: their name, for messages.
        rows: the number of rows.
        spread: whether they form a line or a grid and can be interpolated.
        kind: parts of different kinds share no rows, whatever their number.
    """

    name: str
    rows: int
    spread: Spread = "none"
    kind: str = ""


def parts_of(name: str, config: StackformerConfig) -> list[Part]:
    """The parts of a weight by its name, in row order; empty if it is not a table."""
    codes, positions = Part("codes", config.num_codes), Part("positions", config.num_positions, "grid")
    conditions = Part("conditions", config.null_code, kind=config.condition)
    places = Part("places of conditions", config.condition_length, kind=config.condition)
    return {
        "e_c.weight": [codes, conditions, Part("the null condition", 1)],
        "e_p.weight": [positions, Part("<sos>", 1)],
        "e_t.weight": [places, Part("places of codes", config.num_kept - 1, "line")],
        "code_head.weight": [codes],
        "position_head.weight": [positions],
    }.get(name, [])


def refitted(
    name: str, there: Tensor, here: Tensor, config_there: StackformerConfig, config_here: StackformerConfig
) -> tuple[Tensor, list[str]] | None:
    """Adapt a table [rows, D] from one config to another.

    Args:
        name: the weight's name.
        there: its value under `config_there`.
        here: the values for parts without a counterpart.
        config_there: config of the source model.
        config_here: config of the target model.

    Returns:
        The table and a text about the differences ("" if it is copied unchanged); None if it is not a table or D differs.
    """
    parts_there, parts_here = parts_of(name, config_there), parts_of(name, config_here)
    if not parts_here or there.shape[1:] != here.shape[1:]:
        return None
    made, told = [], []
    rows_there = there.split([part.rows for part in parts_there])
    rows_here = here.split([part.rows for part in parts_here])
    for old, new, part_there, part_here in zip(rows_there, rows_here, parts_there, parts_here, strict=True):
        rows, change = _part(old, new, part_there, part_here)
        made.append(rows)
        told += [change] if change else []
    return torch.cat(made), told


def _part(old: Tensor, new: Tensor, there: Part, here: Part) -> tuple[Tensor, str]:
    if there.kind != here.kind:
        return new, f"{here.name} new, of {here.kind} where there it is {there.kind}" if here.rows else ""
    if there.rows == here.rows:
        return old.to(new.dtype), ""
    if here.spread == "none" or not there.rows or not here.rows:
        return new, f"{here.rows} {here.name} new, {there.rows} there"
    return interpolated(old, here.rows, here.spread).to(
        new.dtype
    ), f"{here.name} interpolated, {there.rows} → {here.rows}"


def interpolated(rows_LD: Tensor, count: int, spread: Spread) -> Tensor:
    """Rows [L, D] → [count, D]: bicubic over a square grid in raster order (as in ViTs), linear along a line.

    If the number of positions is not a square, they count as a line.
    """
    side, new_side = math.isqrt(len(rows_LD)), math.isqrt(count)
    if spread == "grid" and side**2 == len(rows_LD) and new_side**2 == count:
        grid_1DHW = rows_LD.T.reshape(1, -1, side, side)
        resized: Tensor = F.interpolate(
            grid_1DHW, (new_side, new_side), mode="bicubic", antialias=new_side < side
        )
        return resized.flatten(2)[0].T.contiguous()
    line: Tensor = F.interpolate(rows_LD.T[None], count, mode="linear")
    return line[0].T.contiguous()
