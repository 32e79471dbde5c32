"""shape_fit.json of an evaluation artifact: how well each sample shows its requested shape."""

from dataclasses import dataclass

NAME = "shape_fit.json"


@dataclass(frozen=True)
class ShapeFits:
    """Fits in the order of the samples; None where no kind was requested (see `shape_fit`)."""

    kinds: list[str | None]
    fit: list[float | None]
    edge: list[float | None]
