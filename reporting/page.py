"""The report: one HTML file with style, script, pictures and numbers in it; it asks the network nothing.

A content security policy lets only this page's own style and script run, no caption, no class name.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from evaluation.protocol import Protocol
from reporting import codes, curves, gallery, workflow
from reporting.codes import Scatter
from reporting.curves import Training
from reporting.figures import FADED, FOG, HEAT, colour_table
from reporting.gallery import SHARP, Example, Sample
from reporting.numbers import StageNumbers, duration, meaning, read_all, shown
from reporting.summary import Group, Stage1Facts, Stage2Facts, groups, lede, protocol_line
from reporting.workflow import Drawing, Stage
from shards.images import ImageFacts
from workspace.errors import UserError
from workspace.manifest import Manifest, read_json, read_manifest

HERE = Path(__file__).resolve().parent
PARTS = (HERE / "page.html.j2", HERE / "style.css", HERE / "page.js")
"""What the page is made of, beside this code."""
MOST_BYTES = 10_000_000
TRAININGS = ("train_mqvae", "train_stackformer")


@dataclass(frozen=True)
class Sources:
    """What the report is made from: artifact folders, the root of metrics/, and the workflow's dvc.yaml."""

    shards: Path
    reconstructions: Path
    samples: Path
    mqvae: Path
    stackformer: Path
    numbers: Path
    pipeline: Path


@dataclass(frozen=True)
class StageRow:
    """A stage: its entry in dvc.yaml, how long it worked ("" if unknown), as a share of the longest."""

    stage: Stage
    duration: str
    share: float


@dataclass(frozen=True)
class Report:
    """Everything that the page shows."""

    title: str
    lede: str
    summary: list[Group]
    image_size: int
    examples: list[Example]
    samples: list[Sample]
    samples_in_all: int
    sampling: list[tuple[str, str]]
    drawing: Drawing
    stages: dict[str, StageRow]
    total: str
    trainings: list[Training]
    scatter: Scatter
    numbers: list[StageNumbers]

    @property
    def labels(self) -> list[str]:
        """What the samples shown were asked for, each once."""
        return sorted({sample.label for sample in self.samples} - {""})


@dataclass(frozen=True)
class Manifests:
    """The manifests of the artifacts that the report shows."""

    shards: Manifest
    reconstructions: Manifest
    samples: Manifest
    mqvae: Manifest
    stackformer: Manifest

    @classmethod
    def read(cls, sources: Sources) -> "Manifests":
        """All of them.

        Raises:
            UserError: an artifact is missing or not whole.
        """
        return cls(
            shards=read_manifest(sources.shards, "image-shards"),
            reconstructions=read_manifest(sources.reconstructions, "reconstructions"),
            samples=read_manifest(sources.samples, "samples"),
            mqvae=read_manifest(sources.mqvae, "mqvae"),
            stackformer=read_manifest(sources.stackformer, "stackformer"),
        )


def read_report(sources: Sources, title: str, samples: int, examples: int) -> Report:
    """Gather what the page shows: so many samples and examples at most.

    Raises:
        UserError: an artifact, scores or a protocol is missing.
    """
    manifests = Manifests.read(sources)
    numbers = read_all(sources.numbers)
    data = ImageFacts.from_json(manifests.shards.facts)
    one, two = _stage1(manifests.mqvae, sources.mqvae), _stage2(manifests.stackformer)
    found = [curves.read_training(sources.numbers / stage) for stage in TRAININGS]
    trainings = [training for training in found if training is not None]
    stages = workflow.read_stages(sources.pipeline)
    rows = _stage_rows(stages, numbers)
    classes = data.classes or ()
    return Report(
        title=title,
        lede=lede(data, one, two),
        summary=groups(data, one, two, numbers, trainings),
        image_size=data.image_size,
        examples=gallery.read_examples(sources.reconstructions, manifests.reconstructions, classes, examples),
        samples=gallery.read_samples(sources.samples, manifests.samples, classes, samples),
        samples_in_all=manifests.samples.facts["count"],
        sampling=_flat(manifests.samples.facts["settings"]),
        drawing=workflow.draw(stages),
        stages=rows,
        total=duration(sum(of.run.seconds for of in numbers.values() if of.run is not None)),
        trainings=trainings,
        scatter=codes.read_scatter(sources.mqvae),
        numbers=[numbers[name] for name in _in_order(list(numbers), stages) if numbers[name].values],
    )


def render(report: Report) -> str:
    """The page's HTML.

    Raises:
        UserError: it is larger than MOST_BYTES.
    """
    template, style, script = (path.read_text(encoding="utf-8") for path in PARTS)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"shown": shown, "meaning": meaning, "flat": _flat, "protocol_line": protocol_line}
    text = environment.from_string(template).render(
        report=report,
        data=_page_data(report),
        style=Markup(style),
        script=Markup(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        workflow=workflow,
        curves=curves,
        codes=codes,
        protocol_fields=_protocol_fields,
    )
    size = len(text.encode())
    if size > MOST_BYTES:
        raise UserError(
            f"the report has {size:,} bytes, expected at most {MOST_BYTES:,}: lower report.samples or "
            "report.examples"
        )
    return text


def _page_data(report: Report) -> dict[str, Any]:
    """What the script reads: examples, chart values, the colour map."""
    return {
        "examples": [vars(example) for example in report.examples],
        "colours": colour_table().tolist(),
        "heat": HEAT,
        "faded": FADED,
        "fog": FOG,
        "sharp": report.image_size <= SHARP,
        "charts": {
            f"{training.stage}.{chart.term}": [
                {"name": line.name, "steps": line.steps, "values": line.values} for line in chart.lines
            ]
            for training in report.trainings
            for chart in training.main + training.others
        },
    }


def _csp_hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _stage1(manifest: Manifest, folder: Path) -> Stage1Facts:
    facts = manifest.facts
    return Stage1Facts(
        grid=(facts["grid"][0], facts["grid"][1]),
        num_kept=facts["num_kept"],
        num_codes=facts["num_codes"],
        mask_ratio=read_json(folder / "config.json")["mask_ratio"],
        parameters=facts["parameters"],
    )


def _stage2(manifest: Manifest) -> Stage2Facts:
    return Stage2Facts(manifest.facts["condition"], manifest.facts["parameters"])


def _stage_rows(stages: Sequence[Stage], numbers: dict[str, StageNumbers]) -> dict[str, StageRow]:
    runs = {name: of.run.seconds for name, of in numbers.items() if of.run is not None}
    longest = max(runs.values(), default=0) or 1.0
    return {
        stage.name: StageRow(
            stage,
            duration(runs[stage.name]) if stage.name in runs else "",
            runs[stage.name] / longest if stage.name in runs else 0.0,
        )
        for stage in stages
    }


def _in_order(names: Sequence[str], stages: Sequence[Stage]) -> list[str]:
    """Scores first, then the other stages in the order of the flow."""
    order = ["reconstruct", "evaluate", *(stage.name for stage in stages)]
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def _protocol_fields(protocol: Protocol) -> list[tuple[str, str]]:
    """What stands under a table of scores."""
    return [
        ("images scored", f"{protocol.count:,}"),
        ("real images", f"{protocol.reference_count:,} ({protocol.reference_split})"),
        ("reference", protocol.reference),
        ("features", protocol.features),
        ("resize", protocol.resize),
        *_flat({"seed": protocol.seed} | dict(protocol.settings)),
        *((f"made from {name}", value) for name, value in protocol.made_from.items()),
        ("versions", ", ".join(f"{name} {value}" for name, value in sorted(protocol.versions.items()))),
    ]


def _flat(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as `outer.inner` and text."""
    found = []
    for name, value in tree.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            found.append((f"{prefix}{name}", text))
    return found
