"""evaluate: compare samples with real images (docs/artifacts.md; paper §4, Tables 1-5).

Reads   samples, reference
Writes  the samples' nearest training images, shape_fit.json for the shapes data set; scores in metrics/evaluate
Params  evaluate

By hand, images from anywhere: `python -m stages.evaluate --images FOLDER|TAR|NPZ --out DIR` scores them with the extractor of
artifacts/reference against its real images, or against others: `--real FOLDER|TAR|NPZ`, which may be ADM's reference file.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cluster.devices import device_of
from cluster.overlap import ahead
from cluster.shard_map import ShardJob, jobs_of, map_shards
from demo.drawing import KINDS, OUTLINES
from evaluation.asked import label_samples
from evaluation.classes import write_classes
from evaluation.features.extractors import load_extractor
from evaluation.features.labelled import LabelledImages, in_batches
from evaluation.features.reference import Reference
from evaluation.features.rows import FeatureRows, extract
from evaluation.given import require_comparable, statistics_of
from evaluation.metrics.grid import Grid, border_means
from evaluation.metrics.scores import (
    Real,
    accuracy_scores,
    headline,
    real_distances,
    sample_scores,
    scores_of_both,
    write_scores,
)
from evaluation.metrics.statistics import moments
from evaluation.neighbours import EvaluationFacts, Neighbours
from evaluation.protocol import Provenance
from evaluation.shapes.judged import Judged, judge, judged_scores, kinds_of
from settings.evaluate import EvaluateSettings
from shards.samples import SampleFacts, read_samples, sample_shards
from workflow.foreign import OPTIONS
from workflow.running import run_stage
from workflow.stage import Stage
from workspace.exact.manifest import Manifest, facts_of, read_manifest, write_manifest
from workspace.runs import RunFolder
from workspace.settings import Compute


@dataclass(frozen=True)
class Inputs:
    """Paths that the stage reads; real images and statistics are the reference's own where they are not given."""

    samples: Path
    reference: Path
    real: Path | None = None
    statistics: Path | None = None


def run(settings: EvaluateSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Compute features of the samples shard by shard, then the scores."""
    samples, reference = read_manifest(inputs.samples, "samples"), Reference.open(inputs.reference)
    facts, drawn = reference.facts, facts_of(SampleFacts, samples)
    count = drawn.count if settings.num_images is None else settings.num_images
    require_comparable(inputs.samples, count, reference, ": run `dvc repro sample`")
    if inputs.real is not None:
        require_comparable(inputs.real, None, reference, "")
    rows, judged = scored(settings, compute, inputs.samples, inputs.reference, folder, "samples")
    rows, judged = rows.first(count), judged.first(count)
    real = real_of(settings, compute, inputs, reference, folder)
    scores = scores_of_both(sample_scores, facts, real, rows, settings.seed)
    scores |= accuracy_scores(rows, list(facts.heads), facts.class_head)
    grid = Grid(drawn.cell_pixels, drawn.stem_pixels)
    steps = border_means(reference.steps(facts.fid_split)[None] / facts.images[facts.fid_split], grid)
    scores |= judged_scores(judged, steps, rows, facts, grid, KINDS)
    judged.save_fits(folder.out)
    neighbours = Neighbours.of(rows, reference)
    neighbours.save(folder.out)
    scores |= neighbours.scores(facts.features, facts.images["train"])
    of = {"samples": samples.fingerprint}
    provenance = Provenance(len(rows), drawn.settings, drawn.seed, of | dict(samples.made_from))
    scores |= real_distances(reference)
    write_scores(scores, reference, real, provenance, folder.metrics)
    by_class = write_classes(real.rows, rows, facts.classes, settings.seed, folder.metrics)
    for line in filter(None, (headline(facts, scores), by_class)):
        folder.say_when_published(line)
    found = EvaluationFacts(len(rows), facts.features, facts.images["train"])
    write_manifest(
        folder.out, "evaluation", asdict(found), of | {"reference": reference.manifest.fingerprint}
    )


def scored(
    settings: EvaluateSettings, compute: Compute, images: Path, reference: Path, folder: RunFolder, name: str
) -> tuple[FeatureRows, Judged]:
    """Features of all images of a samples artifact, and how well each shows its shape."""
    work, manifest = folder.work.absolute() / name, read_manifest(images, "samples")
    make = partial(extracting, manifest, reference.absolute(), settings, compute.device)
    jobs = jobs_of(sample_shards(images, manifest), lambda path: work / "rows" / f"{path.stem}.safetensors")
    done = map_shards(make, jobs, compute, work / "done", f"features of {name}", folder.progress_file)
    rows = FeatureRows.concatenate([FeatureRows.load(job.output) for job in jobs])
    return rows, Judged.merged([Judged(**shard) for shard in done])


def real_of(
    settings: EvaluateSettings, compute: Compute, inputs: Inputs, reference: Reference, folder: RunFolder
) -> Real:
    """What the samples are held against."""
    facts = reference.facts
    if inputs.real is None and inputs.statistics is None:
        return Real.of(reference, facts.fid_split)
    rows = None
    if inputs.real is not None:
        rows, _ = scored(settings, compute, inputs.real, inputs.reference, folder, "real images")
        found, made_from = moments(rows.features), read_manifest(inputs.real, "samples").fingerprint
    if inputs.statistics is not None:
        found, made_from = statistics_of(inputs.statistics, facts.features, facts.dim)
    return Real(rows, found, made_from)


def extracting(
    samples: Manifest, reference: Path, settings: EvaluateSettings, device: str
) -> Callable[[ShardJob], dict[str, Any]]:
    """Called once per worker; returns the function that writes one sample shard's feature rows and scores its images."""
    facts, drawn = Reference.open(reference).facts, facts_of(SampleFacts, samples)
    grid = Grid(drawn.cell_pixels, drawn.stem_pixels)
    extractor = load_extractor(reference, device_of(device), settings.torchscript_sha256)

    def one(job: ShardJob) -> dict[str, Any]:
        judged: list[Judged] = []

        def labelled() -> Iterator[LabelledImages]:
            for batch in in_batches(read_samples(job.input, samples), settings.batch):
                found = label_samples(batch, facts.heads, facts.classes)
                kinds = kinds_of(facts.heads, found.expected, OUTLINES)
                judged.append(judge(found.images, kinds, OUTLINES, grid))
                yield found

        extract(extractor, ahead(labelled()), keep_logits=facts.features == "inception").save(job.output)
        return Judged.merged(judged).to_json()

    return one


STAGE = Stage("evaluate", __doc__, EvaluateSettings, Inputs, run, options=OPTIONS)

if __name__ == "__main__":
    run_stage("evaluate")
