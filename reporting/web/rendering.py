"""Renders the report as one HTML file that contains style, scripts, pictures and numbers and needs no network.

A content security policy allows only the page's own style and scripts, so no caption or class name can run as code.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from evaluation.protocol import Protocol
from reporting import codes, copies, curves, workflow
from reporting.figures import FADED, FOG, HEAT, colour_table
from reporting.gallery import SHARP, SIDE
from reporting.numbers import flat, meaning, shown, with_interval, without_ends
from reporting.page import Report
from reporting.summary import protocol_line
from workspace.errors import UserError

HERE = Path(__file__).resolve().parent
TEMPLATES = (
    "page.html.j2",
    "summary.html.j2",
    "kept.html.j2",
    "samples.html.j2",
    "draw.html.j2",
    "copies.html.j2",
    "workflow.html.j2",
    "training.html.j2",
    "codebook.html.j2",
    "numbers.html.j2",
)
STYLES = ("base.css", "summary.css", "pictures.css", "draw.css", "charts.css", "numbers.css", "narrow.css")
HEAD_SCRIPT = "theme.js"
DRAWS = (
    "random.js",
    "layers.js",
    "stackformer.js",
    "decoder.js",
    "choosing.js",
    "captions.js",
    "carried.js",
    "drawing.js",
)
SCRIPTS = ("paint.js", "viewer.js", "wall.js", "charts.js", "codebook.js", *DRAWS, "start.js")
PARTS = tuple(HERE / name for name in (*TEMPLATES, *STYLES, HEAD_SCRIPT, *SCRIPTS))
"""The page's template, style and script files."""
MOST_BYTES = 10_000_000


def render(report: Report) -> str:
    """The page's HTML.

    Raises:
        UserError: it is larger than MOST_BYTES.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": shown,
        "meaning": meaning,
        "with_interval": with_interval,
        "without_ends": without_ends,
        "protocol_line": protocol_line,
    }
    style, theme, script = _joined(STYLES), _joined((HEAD_SCRIPT,)), _joined(SCRIPTS)
    text = environment.get_template(TEMPLATES[0]).render(
        report=report,
        data=page_data(report),
        sharp=report.image_size <= SHARP,
        side=min(report.image_size, SIDE),
        style=Markup(style),
        theme=Markup(theme),
        script=Markup(script),
        hashes={"style": _csp_hash(style), "theme": _csp_hash(theme), "script": _csp_hash(script)},
        workflow=workflow,
        curves=curves,
        codes=codes,
        copies=copies,
        protocol_fields=protocol_fields,
    )
    size = len(text.encode())
    if size > MOST_BYTES:
        raise UserError(
            f"the report has {size:,} bytes, expected at most {MOST_BYTES:,}: lower report.samples, "
            "report.examples or report.draw_megabytes"
        )
    return text


def page_data(report: Report) -> dict[str, Any]:
    """The data for the scripts: examples, neighbours, chart values, the colour map."""
    histogram = report.copies.histogram
    return {
        "examples": [
            vars(example) | {"made": [vars(made) for made in example.made]} for example in report.examples
        ],
        "pool": [vars(picture) for picture in report.copies.pool],
        "near": {
            row: [[neighbour.picture, neighbour.distance] for neighbour in near]
            for row, near in report.copies.near.items()
        },
        "histogram": {"high": histogram.x.high, "start": histogram.x.start, "end": histogram.x.end},
        "colours": colour_table().tolist(),
        "heat": HEAT,
        "faded": FADED,
        "fog": FOG,
        "draw": draw_data(report),
        "charts": {
            f"{training.stage}.{chart.term}": [
                {"name": line.name, "steps": line.steps, "values": line.values} for line in chart.lines
            ]
            for training in report.trainings
            for chart in training.main + training.others
        },
    }


def draw_data(report: Report) -> dict[str, Any] | None:
    """What the part of the page that draws reads besides the weights; None where the page does not draw."""
    carried = report.carried
    if not carried.text:
        return None
    return {
        "tensors": carried.tensors,
        "stackformer": carried.stackformer,
        "mqvae": carried.mqvae,
        "settings": carried.settings,
        "tokenizer": carried.tokenizer,
        "tints": {dot.code: dot.colour for dot in report.scatter.dots if dot.colour},
    }


def protocol_fields(protocol: Protocol) -> list[tuple[str, str]]:
    """The text under a table of scores."""
    return [
        ("images scored", f"{protocol.count:,}"),
        ("real images", f"{protocol.reference_count:,} ({protocol.reference_split})"),
        ("reference", protocol.reference),
        ("features", protocol.features),
        ("resize", protocol.resize),
        *flat({"seed": protocol.seed} | dict(protocol.settings)),
        *((f"made from {name}", value) for name, value in protocol.made_from.items()),
        ("versions", ", ".join(f"{name} {value}" for name, value in sorted(protocol.versions.items()))),
    ]


def _joined(names: tuple[str, ...]) -> str:
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)


def _csp_hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
