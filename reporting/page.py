"""The report's content: values gathered from artifacts and metrics, which `reporting.web.rendering` turns into a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from models.base.published import MQVAEFacts, StackformerFacts
from reporting import codes, copies, curves, fits, gallery, workflow
from reporting.carried import Carried, read_carried
from reporting.codes import Scatter
from reporting.copies import Copies
from reporting.curves import Training
from reporting.gallery import Example, Sample
from reporting.numbers import StageNumbers, duration, flat, read_all
from reporting.origin import Origin, read_origin
from reporting.summary import Group, groups, lede, where_from
from reporting.workflow import Drawing, Stage
from shards.images import ImageShards
from shards.samples import SampleFacts
from workspace.errors import UserError
from workspace.exact.manifest import Manifest, facts_of, read_manifest

TRAININGS = ("train_mqvae", "train_stackformer")


@dataclass(frozen=True)
class Sources:
    """The report's inputs: artifact folders, the root of metrics/, and the workflow's dvc.yaml."""

    shards: Path
    reconstructions: Path
    samples: Path
    evaluation: Path
    mqvae: Path
    stackformer: Path
    numbers: Path
    pipeline: Path


@dataclass(frozen=True)
class StageRow:
    """A stage: its entry in dvc.yaml, its working time ("" if unknown), and that time as a share of the longest."""

    stage: Stage
    duration: str
    share: float


@dataclass(frozen=True)
class Report:
    """The page's whole content."""

    title: str
    lede: str
    summary: list[Group]
    image_size: int
    examples: list[Example]
    samples: list[Sample]
    closest: list[Sample]
    worst: list[tuple[Sample, float]]
    best: list[tuple[Sample, float]]
    samples_in_all: int
    sampling: list[tuple[str, str]]
    copies: Copies
    drawing: Drawing
    stages: dict[str, StageRow]
    total: str
    trainings: list[Training]
    scatter: Scatter
    numbers: list[StageNumbers]
    origin: Origin | None
    carried: Carried

    SCORED: ClassVar[Mapping[str, str]] = {
        "reconstruct": "held-out images, encoded and decoded, compared with themselves and with real images",
        "evaluate": "samples compared with real images",
    }
    """Stages whose numbers score the model, and what they score."""

    @property
    def labels(self) -> list[str]:
        """The distinct labels of the displayed samples."""
        return sorted({sample.label for sample in self.samples} - {""})


@dataclass(frozen=True)
class ReportFacts:
    """The facts in a report's manifest: number of displayed samples and examples."""

    samples: int
    examples: int


@dataclass(frozen=True)
class Manifests:
    """The manifests of the report's artifacts."""

    shards: Manifest
    reconstructions: Manifest
    samples: Manifest
    evaluation: Manifest
    mqvae: Manifest
    stackformer: Manifest

    @classmethod
    def read(cls, sources: Sources) -> "Manifests":
        """Read all manifests.

        Raises:
            UserError: an artifact is missing or damaged.
        """
        return cls(
            shards=read_manifest(sources.shards, "image-shards"),
            reconstructions=read_manifest(sources.reconstructions, "reconstructions"),
            samples=read_manifest(sources.samples, "samples"),
            evaluation=read_manifest(sources.evaluation, "evaluation"),
            mqvae=read_manifest(sources.mqvae, "mqvae"),
            stackformer=read_manifest(sources.stackformer, "stackformer"),
        )


def read_report(
    sources: Sources, title: str, samples: int, examples: int, draw_megabytes: float = 0.0
) -> Report:
    """Gather the page's content, with at most this many samples, examples and megabytes of weights to draw with.

    Raises:
        UserError: an artifact, scores or a protocol is missing, or the evaluation used other samples.
    """
    manifests = Manifests.read(sources)
    if manifests.evaluation.made_from.get("samples") != manifests.samples.fingerprint:
        raise UserError(
            f"{sources.evaluation} was made from other samples than {sources.samples}: run `dvc repro evaluate`"
        )
    numbers = read_all(sources.numbers)
    shards = ImageShards.open(sources.shards)
    data = shards.facts
    one, two = facts_of(MQVAEFacts, manifests.mqvae), facts_of(StackformerFacts, manifests.stackformer)
    drawn = facts_of(SampleFacts, manifests.samples)
    found = [curves.read_training(sources.numbers / stage) for stage in TRAININGS]
    trainings = [training for training in found if training is not None]
    stages = workflow.read_stages(sources.pipeline)
    rows = _stage_rows(stages, numbers)
    origin = read_origin(numbers, [stage.name for stage in stages])
    classes = data.classes or ()
    chosen = gallery.choose_samples(sources.samples, manifests.samples, samples)
    near = copies.read_copies(sources.evaluation, manifests.evaluation, shards, chosen)
    ends = fits.read_ends(sources.evaluation, manifests.evaluation)
    rows_shown = [*chosen, *near.closest, *ends.rows()]
    pictures = gallery.read_samples(sources.samples, manifests.samples, classes, rows_shown)
    by_row = {picture.row: picture for picture in pictures}
    carried = read_carried(
        sources.stackformer, sources.mqvae, drawn.settings, _asked_for(two, drawn), draw_megabytes
    )
    colours = codes.read_colours(sources.reconstructions, manifests.reconstructions)
    return Report(
        title=title,
        lede=lede(data, one, two),
        summary=[
            *groups(data, one, two, carried.mqvae["mask_ratio"], numbers, trainings),
            *where_from(origin),
        ],
        image_size=data.image_size,
        examples=gallery.read_examples(sources.reconstructions, manifests.reconstructions, classes, examples),
        samples=pictures[: len(chosen)],
        closest=[by_row[row] for row in near.closest],
        worst=[(by_row[row], fit) for row, fit in ends.worst],
        best=[(by_row[row], fit) for row, fit in ends.best],
        samples_in_all=drawn.count,
        sampling=flat(drawn.settings),
        copies=near,
        drawing=workflow.draw(stages),
        stages=rows,
        total=duration(sum(of.run.seconds for of in numbers.values() if of.run is not None)),
        trainings=trainings,
        scatter=codes.read_scatter(sources.mqvae, colours),
        numbers=[numbers[name] for name in _in_order(list(numbers), stages) if numbers[name].values],
        origin=origin,
        carried=carried,
    )


def _asked_for(learned: StackformerFacts, drawn: SampleFacts) -> list[str]:
    """What the Stackformer can be asked to draw: its classes; or the captions of the samples."""
    return list(learned.classes or drawn.settings.get("prompts") or ())


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
    """Scores first, then the other stages in the order of the workflow."""
    order = ["reconstruct", "evaluate", *(stage.name for stage in stages)]
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))
