"""shape_fit.json of an evaluation artifact: how well each sample shows the shape that was asked for."""

from dataclasses import dataclass

NAME = "shape_fit.json"


@dataclass(frozen=True)
class ShapeFits:
    """By row, in the order of the samples; None where no kind was asked for (see `shape_fit`)."""

    kinds: list[str | None]
    fit: list[float | None]
    edge: list[float | None]
