"""Self-contained SVG line charts, committed by experiments and benchmarks. The page draws its own, which are interactive."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from reporting.axes import axis, count_axis
from reporting.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH

COLOURS = (
    "#8a2c7f", "#c2601f", "#2f6fde", "#3d8f4f", "#b58900", "#d6336c", "#0b7285", "#6c757d", "#5f3dc4", "#000000",
)  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """A line in a chart.

    Attributes:
        name: its name in the legend.
        x, y: the points.
        dashed: distinguishes training from validation.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


def chart(title: str, under: str, curves: Sequence[Curve], pairs: bool) -> str:
    """An SVG group of WIDTH × HEIGHT with axes and a legend; with `pairs`, two consecutive lines share a colour."""
    xs, ys = [[value for curve in curves for value in getattr(curve, name)] for name in ("x", "y")]
    across = count_axis(int(max(xs)), LEFT, WIDTH - RIGHT, 4)
    up = axis(min(ys), max(ys), HEIGHT - BOTTOM, TOP + 14, False, 4)
    parts = [f'<text x="{LEFT}" y="12" font-weight="600">{escape(title)}</text>']
    parts += [
        f'<text x="{tick.place}" y="{HEIGHT - 12}" text-anchor="middle">{tick.label}</text>'
        for tick in across.ticks
    ]
    for tick in up.ticks:
        parts.append(f'<path d="M{LEFT} {tick.place}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{tick.place + 3}" text-anchor="end">{tick.label}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT}" text-anchor="end">{escape(under)}</text>')
    for index, curve in enumerate(curves):
        colour = COLOURS[(index // 2 if pairs else index) % len(COLOURS)]
        points = "L".join(f"{across.place(x)} {up.place(y)}" for x, y in zip(curve.x, curve.y, strict=True))
        dash = ' stroke-dasharray="4 3"' if curve.dashed else ""
        parts.append(f'<path d="M{points}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>')
        row = 30 + 12 * index
        parts.append(
            f'<text x="{WIDTH - RIGHT}" y="{row}" text-anchor="end" fill="{colour}">{escape(curve.name)}</text>'
        )
    return "".join(parts)


def side_by_side(groups: Sequence[str], width: float, height: float) -> str:
    """A complete SVG with the groups in one row."""
    gap = 16
    moved = "".join(
        f'<g transform="translate({index * (width + gap)} 0)">{group}</g>'
        for index, group in enumerate(groups)
    )
    whole = len(groups) * (width + gap) - gap
    style = 'font-family="sans-serif" font-size="10" fill="#333"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole:g} {height:g}" {style}>'
        f'<rect width="100%" height="100%" fill="#fff"/>{moved}</svg>\n'
    )
