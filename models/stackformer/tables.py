"""A Stackformer's tables for other tokens: rows for what both have are taken, positions are interpolated, the rest is new.

Every table of a Stackformer is made of parts with a meaning each: codes, conditions, positions, places in the sequence.
Classes of other data, another number of codes or another grid change the number of rows of a part and no other weight.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.stackformer.model import StackformerConfig

Spread = Literal["none", "line", "grid"]


@dataclass(frozen=True)
class Part:
    """Rows of a table that mean one kind of thing.

    Attributes:
        name: of the things, for people.
        rows: how many there are.
        spread: whether they lie on a line or a grid, so that they can be interpolated.
        kind: parts of different kinds have nothing in common, whatever their number.
    """

    name: str
    rows: int
    spread: Spread = "none"
    kind: str = ""


def parts_of(name: str, config: StackformerConfig) -> list[Part]:
    """The parts of a weight by its name, in the order of its rows; none where it is no table."""
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
    """A table [rows, D] of one config made to fit another.

    Args:
        name: of the weight.
        there: its value under `config_there`.
        here: what the parts that have no counterpart keep.
        config_there: of the model that it is taken from.
        config_here: of the model that it is for.

    Returns:
        The table, and what differs in words, nothing where all is taken as it is; None where it is no table or D differs.
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
    """Rows [L, D] → [count, D]: bicubic over a square grid in raster order (as ViTs do it), linear along a line.

    Positions whose number is not a square lie on a line.
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
