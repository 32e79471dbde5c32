"""shard: a source of images → WebDataset tars of one image size, with a split and an index.

Reads   shard.source: a folder, a zip, a list of paths, COCO's layout, the built-in shapes, or existing tars;
        on a path or at a URL
Writes  image shards (docs/artifacts.md), skipped.jsonl
Params  shard
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from settings.shard import ShardSettings
from shards.images import SKIPPED, SPLITS
from shards.layouts.remote import fingerprints
from shards.making.duplicates import duplicates_of, tallied, without_duplicates
from shards.making.gathering import Written, classes_of, judged, write_index, write_shards
from shards.making.parts import maker, seen_of, write_parts
from shards.making.pictures import Encoding
from shards.making.plans import ShardPlan, plan_shards
from shards.making.results import check_classes, image_facts, say_all
from shards.making.settling import place, require_tars, settle, told_to_settle
from shards.making.sources import files_read, list_source
from shards.making.splits import with_splits
from shards.making.writing import Facts, write_image_manifest, write_lines
from workflow.across import check_source
from workflow.running import run_stage
from workflow.stage import Stage
from workspace.exact.manifest import write_json
from workspace.progress import say
from workspace.runs import RunFolder
from workspace.settings import Compute


@dataclass(frozen=True)
class Inputs:
    """No artifact: the source is a setting."""


def run(settings: ShardSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """List the source, split it, encode in parallel, and write the index."""
    listed = list_source(settings.kind, settings.source, settings.reading, compute.cache)
    images, dropped = listed.images, list[dict[str, str]]()
    if settings.duplicates == "drop":
        images, dropped = without_duplicates(images)
    source = with_splits(replace(listed, images=images), settings.val_fraction, settings.seed)
    for note in source.notes:
        say(note)
    plans = plan_shards(source.images, settings.val_fraction, settings.seed, settings.samples_per_shard)
    written = written_by(settings, compute, plans, folder)
    check_classes(source, classes_of(written.of("train")), folder.work / SKIPPED)
    for plan in plans:
        place(plan.tar(folder.work), plan.tar(folder.out))
    kept = {split: write_index(folder.out, split, written) for split in SPLITS}
    write_lines(folder.out / SKIPPED, chain(written.skipped(), dropped))
    if written.summary:
        folder.say_when_published(f"{written.summary}; see {{out}}/{SKIPPED}")
    facts = image_facts(source, written, settings.image_size, settings.format)
    manifest = write_image_manifest(folder.out, facts, source.made_from)
    if settings.home is not None:
        settle(folder.out, manifest, settings.home, folder.work)
    elif (told := told_to_settle(manifest)) != "":
        say(told)
    skipped = written.counts("reasons").total() + len(dropped)
    found = {"seen": len(source.images) + len(dropped), **facts.counts, "skipped": skipped}
    assert found["seen"] == sum(facts.counts.values()) + found["skipped"], found
    marks = {split: one.marks for split, one in kept.items()}
    twins = tallied(duplicates_of(marks, lambda split, number: kept[split].image(number)))
    say_all(source, written, len(dropped), twins)
    counted = {
        "passed_over": sum(source.passed_over.values()),
        "duplicates": len(dropped) + twins.more,
        "duplicates_across_splits": twins.across,
    }
    write_json(folder.metrics / "metrics.json", found | counted)


def written_by(
    settings: ShardSettings, compute: Compute, plans: Sequence[ShardPlan], folder: RunFolder
) -> Written:
    """All tars: made by processes of this machine, or by the workers of a cluster (decision 0064)."""
    encoding = Encoding(settings.image_size, settings.format, settings.quality)
    most, earlier = settings.max_bad_fraction, [run.work for run in folder.earlier()]
    if compute.workers and compute.ray_address != "local":
        made = made_on_ray(plans, encoding, compute, folder, settings.source, earlier)
        return judged(plans, made, folder.work, most)
    processes = min(compute.threads_alone, len(plans))
    return write_shards(plans, encoding, folder.work, most, processes, folder.progress_file, earlier)


def made_on_ray(
    plans: Sequence[ShardPlan],
    encoding: Encoding,
    compute: Compute,
    folder: RunFolder,
    source: str,
    earlier: Sequence[Path],
) -> Sequence[Facts]:
    """The facts of each tar, made by Ray's workers; each reads its part of the listing from a file in the run's folder."""
    from cluster.shard_map import jobs_of, map_shards

    work = folder.work.absolute()
    make = partial(maker, encoding, work, source, seen_of(plans))
    parts = write_parts(plans, encoding, work, earlier)
    jobs = jobs_of(parts, lambda part: work / f"{part.parent.name}-{part.stem}.json")
    on_cpus = compute.model_copy(update={"device": "cpu"})
    made = map_shards(make, jobs, on_cpus, work / "done", "shards", folder.progress_file)
    shutil.rmtree(work / "parts")
    return made


def sources(settings: ShardSettings) -> list[Path]:
    """The files that a run's fingerprint covers besides the settings."""
    return files_read(settings.kind, settings.source, settings.tars)


def urls(settings: ShardSettings) -> Mapping[str, str]:
    """What the fingerprint says of a source at a URL: names, sizes and stamps as the store gives them now."""
    return fingerprints(settings.source)


STAGE = Stage(
    "shard",
    __doc__,
    ShardSettings,
    Inputs,
    run,
    sources,
    check_source,
    reuses=True,
    homes=ShardSettings.homes,
    elsewhere=require_tars,
    urls=urls,
)

if __name__ == "__main__":
    run_stage("shard")
