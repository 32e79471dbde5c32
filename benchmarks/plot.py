"""The line charts of benchmarks/results, as SVG."""

from collections.abc import Mapping, Sequence
from html import escape

from reporting.axes import Axis, axis

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 70, 210, 36, 50
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#000000",
    "#999999",
    "#8c564b",
    "#17becf",
)
Points = Sequence[tuple[float, float]]


def line_chart(
    title: str, across: str, up: str, lines: Mapping[str, Points], logarithmic: bool = False
) -> str:
    """An SVG document: a line and a legend entry for each name, dots at its points.

    Args:
        title: above.
        across: what the first number of a point is.
        up: what the second is, > 0.
        lines: points by name.
        logarithmic: whether the upright axis is.
    """
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    x_axis = axis(min(xs), max(xs), LEFT, WIDTH - RIGHT, False, 5)
    y_axis = (
        axis(min(ys), max(ys), HEIGHT - BOTTOM, TOP, True, 5)
        if logarithmic
        else axis(0, max(ys), HEIGHT - BOTTOM, TOP, False, 5)
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 20, title, "start", bold=True),
        *_frame(x_axis, y_axis, across, up),
    ]
    for number, (name, points) in enumerate(lines.items()):
        parts += _line(number, name, points, x_axis, y_axis)
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'


def _frame(x_axis: Axis, y_axis: Axis, across: str, up: str) -> list[str]:
    """Grid lines, ticks and the names of the axes."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#444"/>']
    for tick in x_axis.ticks:
        parts.append(_text(tick.place, bottom + 16, tick.label, "middle"))
    for tick in y_axis.ticks:
        parts.append(f'<path d="M{LEFT} {tick.place}H{right}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 6, tick.place + 4, tick.label, "end"))
    middle = (TOP + bottom) / 2
    upright = f'<g transform="rotate(-90 16 {middle:g})">{_text(16, middle, up, "middle")}</g>'
    return [*parts, _text((LEFT + right) / 2, HEIGHT - 12, across, "middle"), upright]


def _line(number: int, name: str, points: Points, x_axis: Axis, y_axis: Axis) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    places = [(x_axis.place(x), y_axis.place(y)) for x, y in points]
    path = " ".join(f"{x:g},{y:g}" for x, y in places)
    y = TOP + 8 + 18 * number
    legend = WIDTH - RIGHT + 14
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(f'<circle cx="{x:g}" cy="{y:g}" r="3.5" fill="{colour}"/>' for x, y in places),
        f'<path d="M{legend} {y}h16" stroke="{colour}" stroke-width="3"/>',
        _text(legend + 22, y + 4, name, "start"),
    ]
