"""shard: a source of images → WebDataset tars of one image size, with a split and an index.

Reads   shard.source: a folder, a zip, a list of paths, COCO's layout, the built-in shapes, or existing tars;
        on a path or at a URL
Writes  image shards (docs/artifacts.md), skipped.jsonl
Params  shard
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from settings.shard import ShardSettings
from shards.images import SKIPPED, SPLITS, ImageFacts
from shards.layouts.formats import told_passed_over
from shards.layouts.image_table import are_captioned, are_masked
from shards.layouts.listed import Source
from shards.layouts.names import counted
from shards.layouts.remote import fingerprints, remote_of
from shards.layouts.tars import tars_of
from shards.layouts.webdataset import names_beside
from shards.making.duplicates import Tally, duplicates_of, tallied, told_duplicates, without_duplicates
from shards.making.gathering import Written, classes_of, judged, write_index, write_shards
from shards.making.pictures import Encoding
from shards.making.plans import ShardPlan, plan_shards, read_part, write_part
from shards.making.reuse import earlier_sides
from shards.making.settling import place, settle, told_to_settle
from shards.making.sources import list_source
from shards.making.splits import with_splits
from shards.making.writing import Facts, write_facts, write_image_manifest, write_lines
from workflow.across import check_source
from workflow.running import run_stage
from workflow.stage import Stage
from workspace.errors import UserError
from workspace.exact.manifest import write_json
from workspace.progress import say
from workspace.runs import RunFolder
from workspace.settings import Compute
from workspace.stores.opening import is_url, local_path

if TYPE_CHECKING:  # at run time imported where it is needed: it imports torch, which takes a second
    from cluster.shard_map import ShardJob


LOOKED_FOR = 100
"""Number of images of which the first that exists shows whether a node reaches the source."""


@dataclass(frozen=True)
class Inputs:
    """No artifact: the source is a setting."""


def sources(settings: ShardSettings) -> list[Path]:
    """The files that a run's fingerprint covers besides the settings."""
    if is_url(settings.source):
        return [path] if (path := local_path(settings.source)) is not None else []
    whole = Path(settings.source).exists() and (
        settings.tars is None or remote_of(settings.source) is not None
    )
    if settings.kind not in ("auto", "webdataset") or whole:
        return [Path(settings.source)]
    tars = tars_of(settings.source, settings.tars)
    return [*tars, *names_beside(settings.source, tars)]


def urls(settings: ShardSettings) -> Mapping[str, str]:
    """What the fingerprint says of a source at a URL: names, sizes and stamps as the store gives them now."""
    return fingerprints(settings.source)


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
    facts = facts_of(settings, source, written)
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
    sides = earlier_sides([plan.images for plan in plans], earlier, encoding)
    parts = [work / "parts" / plan.split / f"{plan.number:06d}.jsonl" for plan in plans]
    for part, plan, before in zip(parts, plans, sides, strict=True):
        if not plan.tar(work).is_file():
            plan.side(work).unlink(missing_ok=True)
        write_part(part, plan, before)
    some = islice((image.data for plan in plans for image in plan.images), LOOKED_FOR)
    seen = next((data.path for data in some if not data.url and Path(data.path).is_file()), "")
    make = partial(maker, encoding, work, source, seen)
    jobs = jobs_of(parts, lambda part: work / f"{part.parent.name}-{part.stem}.json")
    on_cpus = compute.model_copy(update={"device": "cpu"})
    return map_shards(make, jobs, on_cpus, work / "done", "shards", folder.progress_file)


def maker(encoding: Encoding, work: Path, source: str, seen: str) -> "Callable[[ShardJob], dict[str, Any]]":
    """Called once per worker; returns the function that makes a tar of a part of the listing.

    Args:
        encoding: how pictures are stored.
        work: the run's folder.
        source: `shard.source`, for errors.
        seen: an image that the driver can read, "" without one; a node that cannot would skip all images as missing.

    Raises:
        UserError: this node does not reach the source.
    """
    if seen and not Path(seen).is_file():
        raise UserError(
            f"node {socket.gethostname()} does not reach shard.source {source} ({seen}): it must be on storage that every "
            "node has mounted at the same path (NFS, a shared volume)"
        )

    def one(job: "ShardJob") -> dict[str, Any]:
        plan, earlier = read_part(job.input)
        return write_facts(plan, encoding, work, earlier)

    return one


def check_classes(source: Source, trained: set[int], skipped: Path) -> None:
    """UserError if no training image of a class is readable, because the class would still be sampled."""
    lost = [name for number, name in enumerate(source.classes or ()) if number not in trained]
    if lost:
        count = f"{len(lost):,} of {len(source.classes or ()):,} classes"
        raise UserError(
            f"{count} have no readable training image: {counted(lost)}; see {skipped}. Fix the files, "
            f"or leave them out, shard.roles: {{{lost[0]}: skip}}"
        )


def say_all(source: Source, written: Written, dropped: int, twins: Tally) -> None:
    """Report what a user should know, one line each: skipped files, guesses, duplicates, and the result."""
    guessed = ", ".join(f"{count:,} {note}" for note, count in sorted(written.counts("notes").items()))
    for line in (
        told_passed_over(dict(source.passed_over)),
        guessed and f"pictures: {guessed}",
        told_duplicates(twins),
        f"{dropped:,} duplicates left out; see {SKIPPED}" if dropped else "",
        f"{written.reused:,} pictures taken from an earlier run: unchanged" if written.reused else "",
    ):
        if line:
            say(line)


def facts_of(settings: ShardSettings, source: Source, written: Written) -> ImageFacts:
    """The manifest's facts."""
    sizes = written.sizes
    return ImageFacts(
        kind=source.kind,
        image_size=settings.image_size,
        format=settings.format,
        classes=source.classes,
        captions=are_captioned(source.images),
        attributes=source.attributes,
        masks=are_masked(source.images),
        counts={split: sum(own) for split, own in sizes.items()},
        shards=sizes,
    )


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
    urls=urls,
)

if __name__ == "__main__":
    run_stage("shard")
