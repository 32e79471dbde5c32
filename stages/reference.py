"""reference: image shards → features of real images, with which generated ones are compared (docs/artifacts.md).

Reads   image shards
Writes  features, labels and moments of both splits, the extractor (the proxy is trained here), the mean image
Params  reference
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cluster.devices import device_of, use_threads
from cluster.overlap import ahead
from cluster.shard_map import ShardJob, jobs_of, map_shards
from evaluation.features.extractors import SECOND, install_pretrained, load_extractor
from evaluation.features.labelled import chosen_images, in_batches, label_images, training_batches
from evaluation.features.labels import class_head, heads_of
from evaluation.features.proxy import CONFIG, ProxyConfig, save_proxy, train_proxy
from evaluation.features.reference import (
    SPLITS,
    PixelSum,
    Reference,
    ReferenceFacts,
    gather,
    require_images,
    too_few,
)
from evaluation.features.rows import extract
from evaluation.metrics.scores import Real, accuracy_scores, real_distances, write_scores
from evaluation.protocol import Provenance
from settings.reference import ReferenceSettings
from shards.images import ImageShards
from workflow.running import run_stage
from workflow.stage import Stage
from workspace.errors import UserError
from workspace.exact.manifest import write_manifest
from workspace.progress import Progress, say
from workspace.runs import RunFolder
from workspace.settings import Compute
from workspace.stores.cache import Cache


@dataclass(frozen=True)
class Inputs:
    """Paths that the stage reads."""

    shards: Path


def run(settings: ReferenceSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Install or train the extractor, run it over both splits, and gather the features."""
    shards = ImageShards.open(inputs.shards, compute.cache)
    require_images(shards)
    extractor = folder.work.absolute() / "extractor"
    if not (extractor / CONFIG).is_file():
        if settings.second is not None:
            install_pretrained(settings.second, None, None, extractor / SECOND)
        install(settings, compute, shards, extractor, folder)
    found = load_extractor(extractor, device_of("cpu"), settings.torchscript_sha256)
    facts = ReferenceFacts.of(found, shards, settings.max_images, settings.seed, settings.fid_split)
    for line in too_few(facts):
        say(f"note: {line}")
    make = partial(extracting, inputs.shards.absolute(), extractor, settings, compute.device, compute.cache)
    work, tars = folder.work.absolute(), [path for split in SPLITS for path in shards.paths(split)]
    jobs = jobs_of(tars, lambda path: work / "rows" / f"{path.parent.name}-{path.stem}.safetensors")
    map_shards(make, jobs, compute, work / "done", "features of real images", folder.progress_file)
    rows = {split: [job.output for job in jobs if job.input.parent.name == split] for split in SPLITS}
    gather(rows, facts.images["train"], folder.out)
    shutil.copytree(extractor, folder.out, copy_function=shutil.copyfile, dirs_exist_ok=True)
    write_manifest(folder.out, "reference", asdict(facts), made_from={"shards": shards.manifest.fingerprint})
    reference = Reference.open(folder.out)
    scores = accuracy_scores(reference.rows("val"), list(facts.heads), facts.class_head)
    scores |= real_distances(reference)
    provenance = Provenance(facts.images["val"], {}, settings.seed, reference.manifest.made_from)
    write_scores(scores, reference, Real.of(reference, "train"), provenance, folder.metrics)


def install(
    settings: ReferenceSettings, compute: Compute, shards: ImageShards, extractor: Path, folder: RunFolder
) -> None:
    """Write the extractor into its folder: a published network, or a proxy trained on the training labels."""
    if settings.features != "proxy":
        install_pretrained(settings.features, settings.weights, settings.torchscript_sha256, extractor)
        return
    plan = settings.proxy
    heads = heads_of(shards.facts.classes, shards.facts.attributes)
    if not heads:
        raise UserError(
            "reference.features is proxy, which learns from labels, but these image shards have none; "
            "expected inception, squeezenet or efficientnet_lite0"
        )
    use_threads(compute.threads_alone)
    with Progress("proxy", plan.steps, "steps", folder.progress_file) as progress:
        proxy = train_proxy(
            ProxyConfig(plan.width, heads),
            class_head(heads, shards.facts.classes),
            ahead(training_batches(shards, heads, plan.batch, plan.steps, settings.seed, plan.softened)),
            plan.steps,
            plan.learning_rate,
            settings.seed,
            device_of(compute.device),
            progress.update,
        )
    save_proxy(proxy, extractor)


def extracting(
    shards_folder: Path, extractor_folder: Path, settings: ReferenceSettings, device: str, cache: Cache
) -> Callable[[ShardJob], dict[str, Any]]:
    """Called once per worker; returns the function that writes one shard's feature rows and the sum of its pixels."""
    shards = ImageShards.open(shards_folder, cache)
    extractor = load_extractor(extractor_folder, device_of(device), settings.torchscript_sha256)

    def one(job: ShardJob) -> dict[str, Any]:
        split = job.input.parent.name
        index = shards.index(split)
        chosen = chosen_images(len(index), settings.max_images, settings.seed)
        mine = chosen[np.isin(chosen, index.indices_of(job.input))]
        total = PixelSum(shards.facts.image_size)
        batches = (
            label_images([index.read(int(item)) for item in items], extractor.heads, shards.facts.classes)
            for items in in_batches(mine, settings.batch)
        )
        extract(extractor, total.passing(ahead(batches)), keep_logits=False).save(job.output)
        total.save(job.output)
        return {"split": split, "images": len(mine)}

    return one


STAGE = Stage("reference", __doc__, ReferenceSettings, Inputs, run, weights=ReferenceSettings.network_files)

if __name__ == "__main__":
    run_stage("reference")
