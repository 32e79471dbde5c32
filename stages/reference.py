"""reference: image shards → features of real images that reconstructions and samples are held against (DESIGN §6).

Reads   image shards
Writes  features, labels and moments of both splits, the extractor itself (the proxy is trained here), the mean image
Params  reference
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from cluster.devices import device_of, threads_of, use_threads
from cluster.shard_map import ShardJob, map_shards
from evaluation.extractors import FeaturesName, install_pretrained, load_extractor
from evaluation.labels import class_head, heads_of
from evaluation.protocol import Protocol, package_versions
from evaluation.proxy import CONFIG, Labelled, ProxyConfig, save_proxy, train_proxy
from evaluation.reference import SPLITS, Reference, ReferenceFacts, Split, write_mean_image, write_moments
from evaluation.rows import FeatureRows, chosen_images, extract, in_batches, label_images
from evaluation.scores import accuracy_scores, real_distance
from evaluation.statistics import moments
from shards.images import ImageShards
from shards.order import batch_indices
from workspace.errors import UserError
from workspace.manifest import atomic_path, write_json, write_manifest
from workspace.progress import Progress
from workspace.runs import RunFolder
from workspace.settings import Compute, Params, Settings
from workspace.stage import run_stage

UNLABELLED = ("folder", "coco")
GROUP = 16


class ProxySettings(Settings):
    """The little classifier behind `features: proxy`."""

    width: PositiveInt = Field(description="channels of its first level; its features have 4 × width")
    batch: PositiveInt = Field(description="images a training step")
    steps: PositiveInt = Field(description="training steps")
    learning_rate: PositiveFloat = Field(description="peak of AdamW's rate")


class ReferenceSettings(Settings):
    """Section `reference`: what real images are described by."""

    features: FeaturesName = Field(description="proxy (small labelled data), inception (FID), squeezenet")
    weights: Path | None = Field(description="the network's weights; null downloads them; not for proxy")
    fid_split: Split = Field(description="real images that samples are compared with")
    max_images: PositiveInt | None = Field(description="images of a split at most, drawn by seed; null takes all")
    batch: PositiveInt = Field(description="images a forward pass")
    seed: NonNegativeInt = Field(description="of the proxy's weights and order, and of the draw of images")
    proxy: ProxySettings


SECTION, SETTINGS = "reference", ReferenceSettings


@dataclass(frozen=True)
class Inputs:
    """Paths that the stage reads."""

    shards: Path


def check(params: Params) -> None:
    """A proxy needs labels; only published networks have weights to name."""
    settings = params.section(ReferenceSettings)
    where = f"{params.path}: reference"
    kind = params.sections["shard"].model_dump()["kind"]
    if settings.features == "proxy" and kind in UNLABELLED:
        raise UserError(
            f"{where}.features is proxy, which learns from labels, and shard.kind {kind} has none; "
            f"expected inception or squeezenet"
        )
    if settings.features == "proxy" and settings.weights is not None:
        raise UserError(f"{where}.weights is {settings.weights}, and the proxy is trained here; expected null")


def run(settings: ReferenceSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """Install or train the extractor, run it over both splits, gather."""
    shards = ImageShards.open(inputs.shards)
    extractor = folder.work.resolve() / "extractor"
    if not (extractor / CONFIG).is_file():
        install(settings, compute, shards, extractor, folder)
    facts = facts_of(settings, shards, extractor)
    make = partial(extracting, inputs.shards.resolve(), extractor, settings, compute.device)
    jobs = jobs_of(shards, folder.work.resolve() / "rows")
    work = folder.work.resolve() / "done"
    map_shards(make, jobs, compute, work, "features of real images", folder.progress_file)
    gather(facts, jobs, folder.out)
    for path in extractor.iterdir():
        shutil.copyfile(path, folder.out / path.name)
    write_manifest(folder.out, "reference", facts.to_json(), made_from={"shards": shards.manifest.fingerprint})
    write_scores(Reference.open(folder.out), settings, folder.metrics)


def install(
    settings: ReferenceSettings, compute: Compute, shards: ImageShards, extractor: Path, folder: RunFolder
) -> None:
    """Put the extractor into its folder: a published network, or a proxy trained on the training split's labels."""
    if settings.features != "proxy":
        install_pretrained(settings.features, settings.weights, extractor)
        return
    plan = settings.proxy
    heads = heads_of(shards.facts.classes, shards.facts.attributes)
    if not heads:
        raise UserError(
            "reference.features is proxy, which learns from labels, and these image shards have none; "
            "expected inception or squeezenet"
        )
    use_threads(threads_of(compute))
    config = ProxyConfig(plan.width, heads)
    batches = training_batches(settings, shards, folder.progress_file)
    device = device_of(compute.device)
    save_proxy(train_proxy(config, batches, plan.steps, plan.learning_rate, settings.seed, device), extractor)


def training_batches(settings: ReferenceSettings, shards: ImageShards, progress_file: Path) -> Iterator[Labelled]:
    """The proxy's batches in an order that follows from the seed."""
    plan, index = settings.proxy, shards.index("train")
    heads = heads_of(shards.facts.classes, shards.facts.attributes)
    with Progress("proxy", plan.steps, "steps", progress_file) as progress:
        for step in range(plan.steps):
            asked = batch_indices(settings.seed, step, plan.batch, index.shard_sizes, GROUP)
            batch = label_images([index.read(item) for _, item in asked], heads, shards.facts.classes)
            yield Labelled(batch.images, batch.expected)
            progress.update(step + 1)


def facts_of(settings: ReferenceSettings, shards: ImageShards, folder: Path) -> ReferenceFacts:
    """What the manifest will say."""
    extractor = load_extractor(folder, device_of("cpu"))
    counts = {split: len(chosen_images(shards.count(split), settings.max_images, settings.seed)) for split in SPLITS}
    return ReferenceFacts(
        features=extractor.name,
        dim=extractor.dim,
        weights=extractor.fingerprint,
        resize=extractor.resize,
        heads=extractor.heads,
        class_head=class_head(extractor.heads, shards.facts.classes),
        classes=shards.facts.classes,
        image_size=shards.facts.image_size,
        images=counts,
        fid_split=settings.fid_split,
    )


def jobs_of(shards: ImageShards, folder: Path) -> list[ShardJob]:
    """One job a shard of either split; its rows go to `folder`/SPLIT-NAME.safetensors."""
    found = [(split, path) for split in SPLITS for path in shards.paths(split)]
    return [
        ShardJob(path.resolve(), folder / f"{split}-{path.stem}.safetensors", index)
        for index, (split, path) in enumerate(found)
    ]


def extracting(
    shards_folder: Path, extractor_folder: Path, settings: ReferenceSettings, device: str
) -> Callable[[ShardJob], dict[str, Any]]:
    """Made once a worker: the function that writes a shard's rows and the sum of its pixels."""
    shards = ImageShards.open(shards_folder)
    extractor = load_extractor(extractor_folder, device_of(device))

    def one(job: ShardJob) -> dict[str, Any]:
        split = job.input.parent.name
        index = shards.index(split)
        chosen = chosen_images(len(index), settings.max_images, settings.seed)
        mine = chosen[np.isin(chosen, index.indices_of(job.input))]
        batches = [
            label_images([index.read(int(item)) for item in items], extractor.heads, shards.facts.classes)
            for items in in_batches(mine, settings.batch)
        ]
        extract(extractor, batches, keep_logits=False).save(job.output)
        side = shards.facts.image_size
        pixels = sum((batch.images.sum(axis=0, dtype=np.int64) for batch in batches), np.zeros((side, side, 3), np.int64))
        with atomic_path(job.output.with_suffix(".npy")) as temporary:
            np.save(temporary, pixels)
        return {"split": split, "images": len(mine)}

    return one


def gather(facts: ReferenceFacts, jobs: list[ShardJob], out: Path) -> None:
    """Merge the shards' rows into one file a split, with their moments, and write the mean training image."""
    by_split = {split: [job for job in jobs if job.input.parent.name == split] for split in SPLITS}
    found = {}
    for split, mine in by_split.items():
        rows = FeatureRows.concatenate([FeatureRows.load(job.output) for job in mine])
        rows.save(out / f"{split}.safetensors")
        found[split] = moments(rows.features)
    write_moments(out, found)
    sums = [np.load(job.output.with_suffix(".npy"), allow_pickle=False) for job in by_split["train"]]
    write_mean_image(out, np.sum(sums, axis=0), facts.images["train"])


def write_scores(reference: Reference, settings: ReferenceSettings, metrics: Path) -> None:
    """How well the proxy reads held-out images, and how far apart the two splits of real images are."""
    facts = reference.facts
    scores = accuracy_scores(reference.rows("val"), list(facts.heads), facts.class_head)
    scores |= real_distance(facts.features, reference.moments("train"), reference.moments("val"))
    write_json(metrics / "metrics.json", {name: score.value for name, score in scores.items()})
    Protocol(
        reference=reference.manifest.fingerprint,
        reference_split="train",
        reference_count=facts.images["train"],
        count=facts.images["val"],
        resize=facts.resize,
        features=facts.network,
        estimators={name: score.estimator for name, score in scores.items()},
        settings={},
        seed=settings.seed,
        made_from=dict(reference.manifest.made_from),
        versions=package_versions(),
    ).write(metrics)


if __name__ == "__main__":
    run_stage("reference")
