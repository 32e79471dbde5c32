"""shard: a source of images → WebDataset tars of one image size, with a split and an index.

Reads   shard.source: a folder, a zip, a list of paths, COCO's layout, the built-in shapes, or existing tars
Writes  image shards (docs/artifacts.md), skipped.jsonl
Params  shard
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from settings.shard import ShardSettings
from shards.images import SKIPPED, SPLITS, ImageFacts, shard_path
from shards.layouts.formats import told_passed_over
from shards.layouts.listed import Source, SourceImage
from shards.layouts.names import counted
from shards.layouts.tars import tars_of
from shards.layouts.webdataset import names_beside
from shards.making.duplicates import Twin, duplicates_of, told_duplicates, without_duplicates
from shards.making.indexing import write_index
from shards.making.pictures import Encoding
from shards.making.sources import list_source
from shards.making.splits import with_splits
from shards.making.writing import (
    ShardPlan,
    Written,
    plan_shards,
    write_image_manifest,
    write_lines,
    write_shards,
)
from workflow.across import check_source
from workflow.running import run_stage
from workflow.stage import Stage
from workspace.errors import UserError
from workspace.exact.manifest import write_json
from workspace.links import link_or_copy
from workspace.progress import say
from workspace.runs import RunFolder
from workspace.settings import Compute


@dataclass(frozen=True)
class Inputs:
    """No artifact: the source is a setting."""


def sources(settings: ShardSettings) -> list[Path]:
    """The files that a run's fingerprint covers besides the settings."""
    whole = Path(settings.source).exists() and settings.tars is None
    if settings.kind not in ("auto", "webdataset") or whole:
        return [Path(settings.source)]
    tars = tars_of(settings.source, settings.tars)
    return [*tars, *names_beside(settings.source, tars)]


def run(settings: ShardSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """List the source, split it, encode in parallel, and write the index."""
    listed = list_source(settings.kind, settings.source, settings.reading)
    images, dropped = listed.images, list[dict[str, str]]()
    if settings.duplicates == "drop":
        images, dropped = without_duplicates(images)
    source = with_splits(replace(listed, images=images), settings.val_fraction, settings.seed)
    for note in source.notes:
        say(note)
    plans = plan_shards(source.images, settings.val_fraction, settings.seed, settings.samples_per_shard)
    written = write_shards(
        plans,
        Encoding(settings.image_size, settings.format, settings.quality),
        folder.work,
        settings.max_bad_fraction,
        min(compute.threads_alone, len(plans)),
        folder.progress_file,
        [run.work for run in folder.earlier()],
    )
    kept = kept_images(plans, written)
    check_classes(source, kept["train"], folder.work / SKIPPED)
    for plan in plans:
        made = shard_path(folder.out, plan.split, plan.number)
        made.parent.mkdir(exist_ok=True)
        link_or_copy(shard_path(folder.work, plan.split, plan.number), made)
    for split in SPLITS:
        write_index(folder.out, split, written.rows[split], written.sizes[split])
    write_lines(folder.out / SKIPPED, skipped := written.skipped + dropped)
    if written.summary:
        folder.say_when_published(f"{written.summary}; see {{out}}/{SKIPPED}")
    facts = facts_of(settings, source, written)
    write_image_manifest(folder.out, facts, source.made_from)
    found = {"seen": len(source.images) + len(dropped), **facts.counts, "skipped": len(skipped)}
    assert found["seen"] == sum(facts.counts.values()) + found["skipped"], found
    twins = duplicates_of(kept, written.marks)
    say_all(source, written, dropped, twins)
    counted = {
        "passed_over": sum(source.passed_over.values()),
        "duplicates": len(dropped) + sum(len(group) - 1 for group in twins),
        "duplicates_across_splits": sum(len({twin.split for twin in group}) > 1 for group in twins),
    }
    write_json(folder.metrics / "metrics.json", found | counted)


def check_classes(source: Source, kept: Sequence[SourceImage], skipped: Path) -> None:
    """UserError if no training image of a class is readable, because the class would still be sampled."""
    trained = {image.cls for image in kept}
    lost = [name for number, name in enumerate(source.classes or ()) if number not in trained]
    if lost:
        count = f"{len(lost):,} of {len(source.classes or ()):,} classes"
        raise UserError(
            f"{count} have no readable training image: {counted(lost)}; see {skipped}. Fix the files, "
            f"or leave them out, shard.roles: {{{lost[0]}: skip}}"
        )


def kept_images(plans: Sequence[ShardPlan], written: Written) -> dict[str, list[SourceImage]]:
    """Split → the source images of its samples, in order."""
    found: dict[str, list[SourceImage]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        planned = [image for plan in plans if plan.split == split for image in plan.images]
        found[split] = [planned[int(row["key"])] for row in written.rows[split]]
    return found


def say_all(
    source: Source, written: Written, dropped: Sequence[object], twins: Sequence[Sequence[Twin]]
) -> None:
    """Report what a user should know, one line each: skipped files, guesses, duplicates, and the result."""
    guessed = ", ".join(f"{count:,} {note}" for note, count in sorted(written.notes.items()))
    for line in (
        told_passed_over(dict(source.passed_over)),
        guessed and f"pictures: {guessed}",
        told_duplicates(twins),
        f"{len(dropped):,} duplicates left out; see {SKIPPED}" if dropped else "",
        f"{written.reused:,} pictures taken from an earlier run: unchanged" if written.reused else "",
    ):
        if line:
            say(line)


def facts_of(settings: ShardSettings, source: Source, written: Written) -> ImageFacts:
    """The manifest's facts."""
    return ImageFacts(
        kind=source.kind,
        image_size=settings.image_size,
        format=settings.format,
        classes=source.classes,
        captions=any(image.captions for image in source.images),
        attributes=source.attributes,
        masks=all(image.mask is not None for image in source.images),
        counts={split: sum(sizes) for split, sizes in written.sizes.items()},
        shards=written.sizes,
    )


STAGE = Stage("shard", __doc__, ShardSettings, Inputs, run, sources, check_source, reuses=True)

if __name__ == "__main__":
    run_stage("shard")
