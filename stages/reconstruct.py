"""reconstruct: encode and decode images with the MQ-VAE, and score the result (paper §4: Figure 4, Tables 6, 7).

Reads   image shards, reference, MQ-VAE
Writes  figure4.png, examples with their importance maps; scores in metrics/reconstruct
Params  reconstruct
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cluster.devices import device_of
from cluster.overlap import ahead, made_ahead
from cluster.shard_map import ShardJob, jobs_of, map_shards
from demo.drawing import KINDS, OUTLINES
from evaluation import examples
from evaluation.examples import ReconstructionFacts
from evaluation.features.extractors import load_extractor
from evaluation.features.labelled import LabelledImages, chosen_images, in_batches, label_images
from evaluation.features.reference import Reference
from evaluation.features.rows import FeatureRows, extract
from evaluation.metrics.grid import Grid
from evaluation.metrics.scores import (
    Real,
    accuracy_scores,
    reconstruction_distance,
    scores_of_both,
    write_scores,
)
from evaluation.perceptual.lpips import load_lpips
from evaluation.protocol import Provenance
from evaluation.reconstructions import ImageScores, score_images, summarise
from evaluation.shapes.judged import Judged, judge_both, judged_scores
from evaluation.shapes.shape_fit import fit_scores
from inference.encode import KeyedImages
from inference.reconstruct import from_other_counts, reconstruct, reconstructions
from models.mqvae import MQVAE
from reporting.figures import figure4
from settings.reconstruct import ReconstructSettings
from shards.images import ImageShards
from workflow.running import run_stage
from workflow.stage import Stage
from workspace.exact.manifest import read_manifest, write_manifest
from workspace.runs import RunFolder
from workspace.settings import Compute
from workspace.stores.cache import Cache


@dataclass(frozen=True)
class Inputs:
    """Paths that the stage reads."""

    shards: Path
    reference: Path
    mqvae: Path


def run(settings: ReconstructSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Reconstruct the split shard by shard, score it, and keep examples."""
    shards, reference = ImageShards.open(inputs.shards, compute.cache), Reference.open(inputs.reference)
    made_by = read_manifest(inputs.mqvae, "mqvae")
    model = MQVAE.from_pretrained(inputs.mqvae)
    shards.require(image_size=model.config.image_size)
    paths = Inputs(inputs.shards.absolute(), inputs.reference.absolute(), inputs.mqvae.absolute())
    settings = settings.replaced(lpips=settings.lpips.absolute())
    distance = load_lpips(settings.lpips, "reconstruct.lpips")
    make = partial(reconstructing, paths, settings, compute.device, compute.loader_workers, compute.cache)
    work = folder.work.absolute()
    jobs = jobs_of(shards.paths(settings.split), lambda path: work / "rows" / f"{path.stem}.safetensors")
    done = map_shards(make, jobs, compute, work / "done", "reconstructions", folder.progress_file)
    made, originals = (
        Judged.merged([Judged(**values[name]) for values in done]) for name in ("made", "real")
    )
    rows = FeatureRows.concatenate([FeatureRows.load(job.output) for job in jobs])
    real = Real.of(reference, settings.split)
    codes, title = model.quantizer.codebook_KD.detach().numpy(), distance.title if distance else ""
    scores = summarise(ImageScores.merged([ImageScores(**values["scores"]) for values in done]), codes, title)
    scores |= scores_of_both(reconstruction_distance, reference.facts, real, rows, settings.seed)
    scores |= accuracy_scores(rows, list(reference.facts.heads), reference.facts.class_head)
    config = model.config
    grid = Grid(config.downsampling, config.patch_size)
    scores |= judged_scores(made, np.array(originals.steps), rows, reference.facts, grid, KINDS)
    scores |= fit_scores(originals.fits(), (), "_real") if originals.fits() else {}
    by, of_model = {"mqvae": made_by.fingerprint}, ("mask", "num_kept", "num_codes")
    how = Provenance(len(rows), {name: getattr(config, name) for name in of_model}, settings.seed, by)
    write_scores(scores, reference, real, how, folder.metrics)
    keep_examples(settings, shards, model, folder.out)
    made_from = {"shards": shards.manifest.fingerprint, "reference": reference.manifest.fingerprint} | by
    facts = asdict(ReconstructionFacts(len(rows), settings.split))
    write_manifest(folder.out, "reconstructions", facts, made_from)


def reconstructing(
    paths: Inputs, settings: ReconstructSettings, device: str, threads: int, cache: Cache
) -> Callable[[ShardJob], dict[str, Any]]:
    """Called once per worker; returns the function that reconstructs and scores one shard."""
    shards, reference = ImageShards.open(paths.shards, cache), Reference.open(paths.reference)
    extractor = load_extractor(paths.reference, device_of(device), settings.torchscript_sha256)
    distance = load_lpips(settings.lpips, "reconstruct.lpips")
    if distance is not None:
        distance.to(device_of(device))
    model = MQVAE.from_pretrained(paths.mqvae).to(device_of(device))
    mean_image, config = reference.mean_image(), model.config
    grid, borders = (config.grid, config.grid), Grid(config.downsampling, config.patch_size)

    def one(job: ShardJob) -> dict[str, Any]:
        index = shards.index(settings.split)
        scored, made = [], []
        judged: dict[str, list[Judged]] = {"made": [], "real": []}
        batches = in_batches(index.indices_of(job.input), settings.batch)
        read = made_ahead(lambda items: [index.read(item) for item in items], batches, threads)
        backs = reconstructions(model, read, settings.seed, settings.precision)
        for samples, back in ahead(backs):  # a batch is scored while the next one is reconstructed
            counts = np.bincount(back.codes.ravel(), minlength=config.num_codes)
            scored.append(score_images(samples, back.images, mean_image, back.scores, grid, counts, distance))
            labels = label_images(samples, extractor.heads, shards.facts.classes)
            for name, found in judge_both(samples, back.images, OUTLINES, borders).items():
                judged[name].append(found)
            made.append(LabelledImages(back.images, labels.classes, labels.expected))
        extract(extractor, made, keep_logits=False).save(job.output)
        both = {name: Judged.merged(parts).to_json() for name, parts in judged.items()}
        return {"scores": ImageScores.merged(scored).to_json(), **both}

    return one


def keep_examples(settings: ReconstructSettings, shards: ImageShards, model: MQVAE, out: Path) -> None:
    """Write figure4.png and the examples."""
    index = shards.index(settings.split)
    samples = [index.read(int(item)) for item in chosen_images(len(index), settings.examples, settings.seed)]
    batch = KeyedImages.of(samples, settings.seed)
    back = reconstruct(model, batch, settings.precision)
    grid = (model.config.grid, model.config.grid)
    figure4(batch.images, back.scores, back.positions, back.images, grid).save(out / "figure4.png")
    others = from_other_counts(model, batch.images, back)
    columns = (back.scores, back.positions, back.codes, back.order)
    found = examples.examples_of(samples, grid, columns, sorted(others))
    made = {examples.from_cells(count): images for count, images in others.items()}
    pictures = {examples.INPUT: batch.images, examples.RECONSTRUCTION: back.images} | made
    examples.write_examples(out, found, pictures)


STAGE = Stage("reconstruct", __doc__, ReconstructSettings, Inputs, run, weights=ReconstructSettings.weights)

if __name__ == "__main__":
    run_stage("reconstruct")
