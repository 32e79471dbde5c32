"""Writes image shards: square pictures of one size, packed in tars; bad files are reported, not hidden."""

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from shards.images import ImageFacts
from shards.images.opening import IN_ITS_PLACE, MOST_PIXELS, NO_IMAGE
from shards.layouts.listed import MOST_FILE_BYTES, SourceImage, shown_name
from shards.making.duplicates import Mark, mark_of
from shards.making.pictures import Encoding, encode_image, encode_mask
from shards.making.plans import ShardPlan
from shards.making.reuse import (
    MOST_SIDE_BYTES,
    Known,
    known_pictures,
    recipe_of,
    stamp_of,
    tar_of,
    told_by,
)
from workspace.exact.manifest import Manifest, atomic_path, read_json, write_manifest
from workspace.exact.tar import TarWriter
from workspace.links import link_or_copy
from workspace.stores.opening import StoreError

Facts = dict[str, Any]
"""What is kept in memory of a tar that was made: `facts_of`."""


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
    plan = replace(plan, images=tuple(plan.images))
    side, made = plan.side(work), plan.tar(work)
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
    # not canonical JSON: its indented form uses Python's encoder, which is ten times slower
    write_lines(side, [told])
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
            except StoreError:
                raise  # the store's fault, not the picture's
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
    if text in IN_ITS_PLACE.values():
        return text
    if "truncated" in text or "broken data stream" in text:
        return "truncated"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, Image.DecompressionBombError) or str(MOST_PIXELS) in text.replace(",", ""):
        return "too many pixels"
    if type(error) is OSError and text in ("not a plain file", f"larger than {MOST_FILE_BYTES:,} bytes"):
        return text
    return f"{type(error).__name__}: {text.splitlines()[0][:80] if text else 'no message'}"


def write_facts(plan: ShardPlan, encoding: Encoding, work: Path, earlier: Sequence[Path] = ()) -> Facts:
    """Write one tar as `write_shard` does; returns its facts, which are small."""
    return facts_of(plan, write_shard(plan, encoding, work, earlier))


def facts_of(plan: ShardPlan, told: Mapping[str, Any]) -> Facts:
    """The facts of a tar, from its side file: samples, pictures that were reused, kinds of members, classes, and how often each
    reason to skip an image and each guess came."""
    classes = {plan.images[int(row["key"]) - plan.first].cls for row in told["rows"]}
    return {
        "samples": len(told["rows"]),
        "reused": told["reused"],
        "extensions": sorted({name for row in told["rows"] for name in row["members"]}),
        "classes": sorted(classes - {None}),
        "reasons": Counter(row["reason"] for row in told["skipped"]),
        "notes": Counter(note for _, _, notes in told["sources"] for note in notes),
    }


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines atomically, in ASCII, because a name may hold anything that a file system allows."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row, sort_keys=True)}\n" for row in rows)


def write_image_manifest(folder: Path, facts: ImageFacts, made_from: Mapping[str, str]) -> Manifest:
    """Write the manifest; call it last, because it makes the artifact complete."""
    return write_manifest(folder, "image-shards", asdict(facts), made_from)
