"""Writes image shards: square pictures of one size, packed in tars; bad files are reported, not hidden."""

import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from shards.images import SKIPPED, SPLITS, ImageFacts, shard_path
from shards.images.opening import MOST_PIXELS, NO_IMAGE
from shards.layouts.listed import MOST_FILE_BYTES, Source, SourceImage, shown_name
from shards.making.duplicates import Mark, mark_of
from shards.making.pictures import Encoding, encode_image, encode_mask
from shards.making.reuse import (
    MOST_SIDE_BYTES,
    Known,
    earlier_sides,
    known_pictures,
    recipe_of,
    stamp_of,
    tar_of,
    told_by,
)
from shards.making.splits import with_splits
from workspace.errors import UserError
from workspace.exact.manifest import Manifest, atomic_path, read_json, write_manifest
from workspace.exact.seeds import hashed_unit
from workspace.exact.tar import START, TarWriter, load_writer
from workspace.links import link_or_copy
from workspace.progress import Progress

TOP_REASONS = 5


@dataclass(frozen=True)
class ShardPlan:
    """One tar to be made.

    Attributes:
        split: train or val.
        number: the tar's number in its split.
        first: its first image's number in the split, for keys.
        images: its images, in order.
    """

    split: str
    number: int
    first: int
    images: tuple[SourceImage, ...]


def plan_shards(images: Sequence[SourceImage], val_fraction: float, seed: int, size: int) -> list[ShardPlan]:
    """Order images by hash of the name and cut them into shards of `size`; `with_splits` decides missing splits.

    Raises:
        UserError: a split would be empty.
    """
    by_split: dict[str, list[SourceImage]] = {split: [] for split in SPLITS}
    if any(image.split is None for image in images):
        images = with_splits(Source(list(images)), val_fraction, seed).images
    for image in sorted(images, key=lambda image: hashed_unit(seed, "order", image.name)):
        by_split[image.split or "train"].append(image)
    for split, members in by_split.items():
        if not members:
            mend = "two images or more are needed" if val_fraction else "set shard.val_fraction above 0"
            if split == "train" and len(images) > 1:
                mend = "say what is for training, shard.roles: {val: train}"
            elif val_fraction and len(images) > 1:
                mend = "each class has one image, which is for training; two of a class are needed, or a validation set"
            raise UserError(
                f"the split {split} of shard.source would be empty: of {len(images)} images, shard.val_fraction is "
                f"{val_fraction}; {mend}"
            )
    return [
        ShardPlan(split, number, first, tuple(members[first : first + size]))
        for split, members in by_split.items()
        for number, first in enumerate(range(0, len(members), size))
    ]


def members_of(
    image: SourceImage, encoding: Encoding, known: Known | None = None
) -> tuple[dict[str, bytes], Mark, tuple[str, ...]]:
    """A sample's members by extension, in storage order; its source's mark; guesses about it.

    Args:
        image: the source image.
        encoding: how its picture is stored.
        known: the same image as an earlier run encoded it.
    """
    pictures = None if known is None else known.members()
    if known is not None and pictures is not None:
        mark, notes = known.mark, known.notes
    else:
        guessed: set[str] = set()
        data = image.data.read()
        pictures = {encoding.format: encode_image(data, encoding, guessed)}
        if image.mask is not None:
            pictures["mask.png"] = encode_mask(image.mask.read(), encoding.image_size)
        mark, notes = mark_of(data), tuple(sorted(guessed))
    members: dict[str, bytes] = {encoding.format: pictures.pop(encoding.format)}
    if image.cls is not None:
        members["cls"] = str(image.cls).encode()
    if image.captions:
        members["txt"] = "\n".join(image.captions).encode()
    if image.attributes is not None:
        members["attributes.json"] = json.dumps(image.attributes, sort_keys=True).encode()
    return members | pictures, mark, notes


def write_shard(
    plan: ShardPlan, encoding: Encoding, work: Path, earlier: Sequence[Path] = ()
) -> dict[str, Any]:
    """Write one tar below `work` and then its side file; returns the side file's content.

    The tar is written to `shard_path(work, …)`; a file that cannot be read or decoded is skipped and reported.

    Args:
        plan: the tar's images.
        encoding: how pictures are stored.
        work: the run's folder.
        earlier: side files of earlier runs whose tars may hold the same pictures.
    """
    side, made = work / f"{plan.split}-{plan.number:06d}.json", shard_path(work, plan.split, plan.number)
    if side.is_file() and made.is_file():
        told: dict[str, Any] = read_json(side, MOST_SIDE_BYTES)
        return told
    stamps = [stamp_of(image) for image in plan.images]
    recipe = recipe_of((plan.split, plan.number, plan.first), encoding, plan.images, stamps)
    for same in (path for path in earlier if path.name == side.name):
        told = told_by(same, encoding)
        if told["recipe"] == recipe and not told["skipped"]:
            with atomic_path(made) as temporary:
                temporary.unlink()
                link_or_copy(tar_of(same), temporary)
            told["reused"] = len(told["rows"])
            write_lines(side, [told])
            return told
    told = _write_tar(plan, encoding, made, stamps, known_pictures(earlier, encoding))
    told |= {"recipe": recipe, "encoding": asdict(encoding)}
    write_lines(
        side, [told]
    )  # not canonical JSON: its indented form uses Python's encoder, which is ten times slower
    return told


def _write_tar(
    plan: ShardPlan, encoding: Encoding, made: Path, stamps: Sequence[str], known: Mapping[str, Known]
) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    sources: list[tuple[str, Mark, tuple[str, ...]]] = []
    reused = 0
    with atomic_path(made) as temporary, TarWriter(temporary) as tar:
        for number, (image, stamp) in enumerate(zip(plan.images, stamps, strict=True), start=plan.first):
            source = shown_name(image.name)
            before = known.get(source)
            before = before if before is not None and stamp and before.stamp == stamp else None
            try:
                members, mark, notes = members_of(image, encoding, before)
            except NO_IMAGE as error:
                skipped.append({"source": source, "reason": reason(error)})
                continue
            key = f"{number:07d}"
            written = {name: tar.add(f"{key}.{name}", data) for name, data in members.items()}
            places = {
                name: (member.offset, member.length, zlib.crc32(members[name]))
                for name, member in written.items()
            }
            rows.append({"key": key, "tar": plan.number, "members": places, "source": source})
            sources.append((stamp, mark, notes))
            reused += before is not None
    return {"rows": rows, "skipped": skipped, "sources": sources, "reused": reused}


def reason(error: Exception) -> str:
    """Why a file was skipped, in a few words that do not depend on the machine."""
    text = str(error)
    if isinstance(error, FileNotFoundError):
        return "missing"
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if "truncated" in text or "broken data stream" in text:
        return "truncated"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, Image.DecompressionBombError) or str(MOST_PIXELS) in text.replace(",", ""):
        return "too many pixels"
    if type(error) is OSError and text in ("not a plain file", f"larger than {MOST_FILE_BYTES:,} bytes"):
        return text
    return f"{type(error).__name__}: {text.splitlines()[0][:80] if text else 'no message'}"


@dataclass(frozen=True)
class Written:
    """The result of writing all plans.

    Attributes:
        rows: split → index rows.
        sizes: split → samples in each tar.
        skipped: rows of skipped.jsonl.
        marks: split → each sample's source mark (see `shards.making.duplicates`).
        notes: guess → number of pictures.
        reused: number of pictures taken from earlier runs.
        summary: one line about skipped files, "" if there are none.
    """

    rows: Mapping[str, list[dict[str, Any]]]
    sizes: Mapping[str, tuple[int, ...]]
    skipped: list[dict[str, str]]
    marks: Mapping[str, list[Mark]]
    notes: Mapping[str, int]
    reused: int
    summary: str = ""


def write_shards(
    plans: Sequence[ShardPlan],
    encoding: Encoding,
    work: Path,
    max_bad_fraction: float,
    processes: int,
    file: Path,
    earlier: Sequence[Path] = (),
) -> Written:
    """Write all shards in parallel; finished ones are not written again.

    Args:
        plans: the tars.
        encoding: how pictures are stored.
        work: the run's folder.
        max_bad_fraction: share of images that may be skipped.
        processes: number of encoding processes.
        file: the stream for the progress bar.
        earlier: folders `work` of earlier runs; pictures are reused if their sources have not changed.

    Raises:
        UserError: more than the share `max_bad_fraction` of the images was skipped, or a split lost all of its images.
    """
    written = Written({split: [] for split in SPLITS}, {}, [], {split: [] for split in SPLITS}, {}, 0)
    sizes: dict[str, list[int]] = {split: [] for split in SPLITS}
    notes, done, reused = Counter[str](), 0, 0
    total = sum(len(plan.images) for plan in plans)
    sides = earlier_sides([plan.images for plan in plans], earlier, encoding)
    with Progress("shards", total, "images", file) as progress:
        for plan, told in zip(plans, _in_processes(plans, encoding, work, processes, sides), strict=True):
            written.rows[plan.split].extend(told["rows"])
            sizes[plan.split].append(len(told["rows"]))
            written.skipped.extend(told["skipped"])
            for _, mark, guessed in told["sources"]:
                written.marks[plan.split].append(tuple(mark))
                notes.update(guessed)
            done, reused = done + len(plan.images), reused + told["reused"]
            progress.update(done, skipped=len(written.skipped))
    line = _judge(written.skipped, total, max_bad_fraction, work)
    for split, found in written.rows.items():
        if not found:
            raise UserError(f"every image of the split {split} was skipped; see {work / SKIPPED}")
    counted = {split: tuple(found) for split, found in sizes.items()}
    return replace(written, sizes=counted, notes=dict(notes), reused=reused, summary=line)


def _in_processes(
    plans: Sequence[ShardPlan],
    encoding: Encoding,
    work: Path,
    processes: int,
    sides: Sequence[Sequence[Path]],
) -> Iterator[dict[str, Any]]:
    if processes == 1:
        yield from map(write_shard, plans, repeat(encoding), repeat(work), sides)
        return
    load_writer()
    with ProcessPoolExecutor(processes, mp_context=get_context(START)) as pool:
        yield from pool.map(write_shard, plans, repeat(encoding), repeat(work), sides)


def _judge(skipped: Sequence[Mapping[str, str]], total: int, most: float, work: Path) -> str:
    """A line about skipped images; UserError if they are too many, with the details kept in `work`."""
    if not skipped:
        return ""
    write_lines(work / SKIPPED, skipped)
    reasons: dict[str, int] = {}
    for row in skipped:
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    top = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    told = ", ".join(f"{count:,} {name}" for name, count in top[:TOP_REASONS])
    told += f" and {len(top) - TOP_REASONS} other reasons" if top[TOP_REASONS:] else ""
    text = f"skipped {len(skipped):,} of {total:,} images ({len(skipped) / total:.1%}): {told}"
    if len(skipped) > most * total:
        raise UserError(
            f"{text}; see {work / SKIPPED}. More than shard.max_bad_fraction = {most}: fix the files, or raise it"
        )
    return text


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write JSON lines atomically, in ASCII, because a name may hold anything that a file system allows."""
    with atomic_path(path) as temporary:
        text = "".join(f"{json.dumps(row, sort_keys=True)}\n" for row in rows)
        temporary.write_text(text, encoding="utf-8")


def write_image_manifest(folder: Path, facts: ImageFacts, made_from: Mapping[str, str]) -> Manifest:
    """Write the manifest; call it last, because it makes the artifact complete."""
    return write_manifest(folder, "image-shards", asdict(facts), made_from)
