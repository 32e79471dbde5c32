"""evaluate: compare samples with real images (docs/artifacts.md; paper §4, Tables 1-5).

Reads   samples, reference
Writes  the samples' nearest training images, shape_fit.json for the shapes data set; scores in metrics/evaluate, with their
        protocol
Params  evaluate
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cluster.devices import device_of
from cluster.overlap import ahead
from cluster.shard_map import ShardJob, jobs_of, map_shards
from demo.drawing import KINDS, OUTLINES
from evaluation.asked import label_samples
from evaluation.features.extractors import load_extractor
from evaluation.features.labelled import LabelledImages, in_batches
from evaluation.features.reference import Reference
from evaluation.features.rows import FeatureRows, extract
from evaluation.metrics.grid import Grid, border_means
from evaluation.metrics.scores import Real, accuracy_scores, sample_scores, write_scores
from evaluation.metrics.statistics import FEWEST
from evaluation.neighbours import SHOWN, EvaluationFacts, Neighbours, copy_scores, nearest
from evaluation.protocol import Provenance
from evaluation.shapes.judged import Judged, judge, judged_scores, kinds_of
from settings.evaluate import EvaluateSettings
from shards.samples import SampleFacts, read_samples, sample_shards
from workflow.running import run_stage
from workflow.stage import Stage
from workspace.errors import UserError
from workspace.exact.manifest import Manifest, facts_of, read_manifest, write_manifest
from workspace.runs import RunFolder
from workspace.settings import Compute


@dataclass(frozen=True)
class Inputs:
    """Paths that the stage reads."""

    samples: Path
    reference: Path


def run(settings: EvaluateSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Compute features of the samples shard by shard, then the scores."""
    samples, reference = read_manifest(inputs.samples, "samples"), Reference.open(inputs.reference)
    facts, drawn = reference.facts, facts_of(SampleFacts, samples)
    count = drawn.count if settings.num_images is None else settings.num_images
    if drawn.image_size != facts.image_size or not FEWEST <= count <= drawn.count:
        raise UserError(
            f"{inputs.samples} holds {drawn.count} images of {drawn.image_size} pixels; expected at least "
            f"{max(count, FEWEST)} of {facts.image_size}: run `dvc repro sample`"
        )
    if drawn.classes is not None and drawn.classes != facts.classes:
        raise UserError(
            f"{inputs.samples} has classes that {inputs.reference} does not: run `dvc repro evaluate`"
        )
    work = folder.work.absolute()
    make = partial(extracting, samples, inputs.reference.absolute(), settings, compute.device)
    tars = sample_shards(inputs.samples, samples)
    jobs = jobs_of(tars, lambda path: work / "rows" / f"{path.stem}.safetensors")
    done = map_shards(make, jobs, compute, work / "done", "features of samples", folder.progress_file)
    judged = Judged.merged([Judged(**shard) for shard in done]).first(count)
    rows = FeatureRows.concatenate([FeatureRows.load(job.output) for job in jobs]).first(count)
    real = Real(reference.rows(facts.fid_split), reference.moments(facts.fid_split))
    scores = sample_scores(facts.features, real, rows, settings.seed)
    scores |= accuracy_scores(rows, list(facts.heads), facts.class_head)
    grid = Grid(drawn.cell_pixels, drawn.stem_pixels)
    steps = border_means(reference.steps(facts.fid_split)[None] / facts.images[facts.fid_split], grid)
    scores |= judged_scores(judged, steps, rows, facts, grid, KINDS)
    judged.save_fits(folder.out)
    neighbours = neighbours_of(rows, reference)
    neighbours.save(folder.out)
    nearest_one, training = neighbours.distances[:, 0], facts.images["train"]
    scores |= copy_scores(facts.features, nearest_one, neighbours.held_out, training)
    made_from = {"samples": samples.fingerprint} | dict(samples.made_from)
    provenance = Provenance(len(rows), drawn.settings, drawn.seed, made_from)
    write_scores(scores, reference, facts.fid_split, provenance, folder.metrics)
    found = EvaluationFacts(len(rows), facts.features, training)
    made_from = {"samples": samples.fingerprint, "reference": reference.manifest.fingerprint}
    write_manifest(folder.out, "evaluation", asdict(found), made_from)


def neighbours_of(rows: FeatureRows, reference: Reference) -> Neighbours:
    """The samples' nearest training images; also those of held-out images, as a baseline for the distances."""
    training = reference.rows("train").features
    made, real = nearest(rows.features, training, SHOWN), nearest(reference.rows("val").features, training, 1)
    return Neighbours(
        items=reference.facts.items("train")[made.items],
        distances=made.distances.astype(np.float32),
        held_out=real.distances[:, 0].astype(np.float32),
    )


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

        rows = extract(extractor, ahead(labelled()), keep_logits=facts.features == "inception")
        rows.save(job.output)
        return Judged.merged(judged).to_json()

    return one


STAGE = Stage("evaluate", __doc__, EvaluateSettings, Inputs, run)

if __name__ == "__main__":
    run_stage("evaluate")
