"""All pictures below a folder, unlabelled. Folders named like splits are the splits."""

from collections.abc import Sequence

from shards.layouts.formats import PassedOver, add
from shards.layouts.listed import ImageList, Source, SourceImage
from shards.layouts.names import counted
from shards.layouts.reading import (
    KEPT_APART,
    SKIPPED_BY_ROLE,
    Part,
    Reading,
    check_roles,
    divided,
    without_skipped,
)
from shards.layouts.walking import Files


def list_folder(files: Files, reading: Reading, source: str) -> Source:
    """Every image at any depth; a test split is left out."""
    check_roles(reading, files.names, (), source)
    names = without_skipped(files.names, reading)
    passed_over = files.passed_over([files.listing] if files.listing else [])
    if len(names) < len(files.names):
        add(passed_over, SKIPPED_BY_ROLE, len(files.names) - len(names))
    parts = divided(names, reading, source, classes=False)
    images = [
        SourceImage(name, files.locate(name), part.split)
        for part in parts
        for name in part.names
        if part.split != "test"
    ]
    images.sort(key=lambda image: image.name)
    read = (files.listing,) if files.listing else ()
    return Source(
        ImageList(images),
        passed_over=passed_over,
        read=read,
        notes=(*entered(parts, names), *keep_apart(parts, passed_over)),
    )


def keep_apart(parts: Sequence[Part], passed_over: PassedOver) -> list[str]:
    """Count the images of test splits; returns notes about them."""
    apart = [part for part in parts if part.split == "test"]
    if not apart:
        return []
    count = sum(len(part.names) for part in apart)
    add(passed_over, KEPT_APART, count)
    folder = apart[0].prefix.rstrip("/")
    role = folder if len(apart) == 1 else folder.rpartition("/")[2]
    are, them = ("is", "it") if len(apart) == 1 else ("are", "them")
    return [
        f"{counted([part.prefix for part in apart], 3)} ({count:,} images) {are} kept apart, neither trained nor validated on: "
        f"shard.roles: {{{role}: val}} takes {them} for validation"
    ]


def entered(parts: Sequence[Part], names: Sequence[str]) -> list[str]:
    """Notes about wrapper folders that hold everything else and were entered."""
    prefix = parts[0].prefix if len(parts) == 1 and parts[0].split is None else _above(parts)
    if not prefix or not names:
        return []
    folder = prefix.rstrip("/")
    return [
        f"{prefix} holds everything and was entered; if it is a class, set shard.roles: {{{folder}: class}}"
    ]


def _above(parts: Sequence[Part]) -> str:
    """The folder that contains the split folders."""
    folder = parts[0].prefix.rstrip("/").rpartition("/")[0]
    if parts[0].cls is not None:
        folder = folder.rpartition("/")[0]
    return f"{folder}/" if folder else ""
