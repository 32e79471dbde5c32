"""shard: a source of images → WebDataset tars of one image size, with a split and an index.

Reads   shard.source: a folder, a zip, a list of paths, COCO's layout, the embedded shapes, or existing tars
Writes  image shards (docs/artifacts.md), skipped.jsonl
Params  shard
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field, NonNegativeFloat, PositiveInt

from shards.duplicates import Duplicates, Twin, duplicates_of, told_duplicates, without_duplicates
from shards.images import SKIPPED, SPLITS, ImageFacts, shard_path, write_image_manifest
from shards.layouts.formats import told_passed_over
from shards.layouts.listed import Source, SourceImage
from shards.layouts.reading import ColumnUse, Reading, Role
from shards.layouts.tars import tars_of
from shards.layouts.webdataset import names_beside
from shards.pictures import Encoding, Format
from shards.sources import Kind, list_source
from shards.splits import with_splits
from shards.writing import ShardPlan, Written, plan_shards, write_lines, write_shards
from workspace.errors import UserError
from workspace.links import link_or_copy
from workspace.manifest import write_json
from workspace.progress import say
from workspace.runs import RunFolder
from workspace.seeds import Seed
from workspace.settings import Compute, Params, Settings
from workspace.stage import run_stage


class ShardSettings(Settings):
    """Section `shard`: the data set."""

    kind: Kind = Field(description="layout of the source; auto takes what `python -m shards.inspect` finds")
    source: str = Field(description="folder, zip, list of paths, listing, or glob of tars")
    image_size: PositiveInt = Field(description="pixels a side: short side resized, centre cropped")
    format: Format = Field(description="png (exact) or jpg")
    quality: PositiveInt = Field(description="of jpg", le=95)
    val_fraction: NonNegativeFloat = Field(
        description="held out where the source has no validation set: of each class, else by hash of the name",
        lt=1,
    )
    samples_per_shard: PositiveInt = Field(description="images a tar")
    max_bad_fraction: NonNegativeFloat = Field(description="share of bad files that stops the stage", le=1)
    duplicates: Duplicates = Field(
        default="keep", description="images with another's bytes: keep (counted) or drop"
    )
    seed: Seed = Field(description="of split and order")
    roles: dict[str, Role] = Field(
        default_factory=dict,  # these three: older params files stay valid
        description="what a folder, file or value of a split column is, where its name misleads: {test: val, extra: skip}",
    )
    tables: list[str] | None = Field(
        default=None,
        description="files of the source with labels, captions or splits, '*.txt' for texts beside the images; null looks",
    )
    columns: dict[ColumnUse, str] = Field(
        default_factory=dict,
        description="columns of tables, or members of tars, where their names do not say: {label: Smiling}, {mask: seg.png}",
    )

    tars: str | None = Field(
        default=None,
        description="of a folder of tars those that match: 'train-{000..099}.tar'; null takes all",
    )

    @property
    def reading(self) -> Reading:
        """How the source is to be read."""
        return Reading(
            self.roles, None if self.tables is None else tuple(self.tables), self.columns, self.tars
        )


SECTION, SETTINGS = "shard", ShardSettings
REUSES = True


@dataclass(frozen=True)
class Inputs:
    """No artifact: the source is a setting."""


def check(params: Params) -> None:
    """The source is named, and is not this repository."""
    settings = params.section(ShardSettings)
    if not settings.source.strip():
        raise UserError(
            f"{params.path}: shard.source is empty; expected a folder of images, a list, a zip, or tars"
        )
    here = Path.cwd()
    if Path(os.path.normpath(here / settings.source)) in (here, *here.parents):
        raise UserError(
            f"{params.path}: shard.source {settings.source} holds this repository itself; expected a folder of images alone"
        )


def check_across(params: Params) -> None:
    """The models take images of the size that the shards have, and a condition that this kind of source can serve."""
    settings = params.section(ShardSettings)
    wanted = params.sections["mqvae"].model_dump()["model"]["image_size"]
    if settings.image_size != wanted:
        raise UserError(
            f"{params.path}: shard.image_size is {settings.image_size} and mqvae.model.image_size is {wanted}; make them equal"
        )
    if settings.kind in ("folder", "class_folder", "coco"):
        captions = settings.kind == "coco" or (settings.kind == "class_folder" and bool(settings.tables))
        _check_served(params, f"shard.kind {settings.kind}", settings.kind == "class_folder", captions)


def preflight(params: Params) -> None:
    """Before any work: labels and captions that later stages ask for are there, where the kind alone does not say so."""
    settings = params.section(ShardSettings)
    asked = (
        params.sections["stackformer"].model_dump()["condition"],
        params.sections["reference"].model_dump()["features"],
    )
    if settings.kind not in ("auto", "metadata", "webdataset") or not {"class", "text", "proxy"} & {*asked}:
        return
    source = list_source(settings.kind, settings.source, settings.reading)
    captions = any(image.captions for image in source.images)
    labels = bool(source.classes) or bool(source.attributes)
    _check_served(params, f"shard.source {settings.source}", bool(source.classes), captions)
    if asked[1] == "proxy" and not labels:
        raise UserError(
            f"{params.path}: reference.features is proxy, which learns from labels, and shard.source {settings.source} has none; "
            "expected inception or squeezenet"
        )


def _check_served(params: Params, what: str, classes: bool, captions: bool) -> None:
    condition = params.sections["stackformer"].model_dump()["condition"]
    has = [name for name, there in (("class", classes), ("text", captions)) if there]
    if condition != "none" and condition not in has:
        lacks = "classes" if condition == "class" else "captions"
        raise UserError(
            f"{params.path}: stackformer.condition is {condition}, and {what} has no {lacks}; expected "
            f"{' or '.join(['none', *has])}, or a source with {lacks}: `python -m shards.inspect SOURCE` shows what one has"
        )


def sources(settings: ShardSettings) -> list[Path]:
    """What the fingerprint of a run covers beside the settings."""
    whole = Path(settings.source).exists() and settings.tars is None
    if settings.kind not in ("auto", "webdataset") or whole:
        return [Path(settings.source)]
    tars = tars_of(settings.source, settings.tars)
    return [*tars, *names_beside(settings.source, tars)]


def run(settings: ShardSettings, compute: Compute, inputs: Inputs, folder: RunFolder) -> None:
    """List, split, encode in parallel, index."""
    listed = list_source(settings.kind, settings.source, settings.reading)
    images, dropped = listed.images, list[dict[str, str]]()
    if settings.duplicates == "drop":
        images, dropped = without_duplicates(images)
    source = with_splits(replace(listed, images=images), settings.val_fraction, settings.seed)
    for note in source.notes:
        say(note)
    plans = plan_shards(source.images, settings.val_fraction, settings.seed, settings.samples_per_shard)
    encoding = Encoding(settings.image_size, settings.format, settings.quality)
    processes = min(compute.threads or os.cpu_count() or 1, len(plans))
    written = write_shards(
        plans,
        encoding,
        folder.work,
        settings.max_bad_fraction,
        processes,
        folder.progress_file,
        [run.work for run in folder.earlier()],
    )
    for plan in plans:
        made = shard_path(folder.out, plan.split, plan.number)
        made.parent.mkdir(exist_ok=True)
        link_or_copy(shard_path(folder.work, plan.split, plan.number), made)
    for split in SPLITS:
        write_lines(folder.out / f"{split}.index.jsonl", written.rows[split])
    skipped = written.skipped + dropped
    write_lines(folder.out / SKIPPED, skipped)
    if written.told:
        folder.say_when_published(f"{written.told}; see {{out}}/{SKIPPED}")
    facts = facts_of(settings, source, written)
    write_image_manifest(folder.out, facts, source.made_from)
    found = {"seen": len(source.images) + len(dropped), **facts.counts, "skipped": len(skipped)}
    assert found["seen"] == sum(facts.counts.values()) + found["skipped"], found
    twins = duplicates_of(kept_images(plans, written), written.marks)
    say_all(source, written, dropped, twins)
    counted = {
        "passed_over": sum(source.passed_over.values()),
        "duplicates": len(dropped) + sum(len(group) - 1 for group in twins),
        "duplicates_across_splits": sum(len({twin.split for twin in group}) > 1 for group in twins),
    }
    write_json(folder.metrics / "metrics.json", found | counted)


def kept_images(plans: Sequence[ShardPlan], written: Written) -> dict[str, list[SourceImage]]:
    """Split → the images of its samples, in order."""
    found: dict[str, list[SourceImage]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        planned = [image for plan in plans if plan.split == split for image in plan.images]
        found[split] = [planned[int(row["key"])] for row in written.rows[split]]
    return found


def say_all(
    source: Source, written: Written, dropped: Sequence[object], twins: Sequence[Sequence[Twin]]
) -> None:
    """What a user should know of the source, a line each: files passed over, guesses, duplicates, what was saved."""
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
    """What the manifest says."""
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


if __name__ == "__main__":
    run_stage("shard")
