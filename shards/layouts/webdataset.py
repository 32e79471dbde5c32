"""Existing WebDataset tars, by a glob."""

import glob
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from shards.images import MOST_CLASSES
from shards.layouts.formats import PICTURES
from shards.layouts.listed import Location, Source, SourceImage, clean_caption
from shards.tar import BROKEN, check_end, plain_members
from workspace.errors import UserError

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def list_webdataset(source: str) -> Source:
    """Existing tars by a glob: an image a key, with .cls, .txt and .mask.png beside it."""
    if URL.match(source):
        raise UserError(
            f"shard.source {source} is a URL or a command, which webdataset would run in a shell: refused; "
            "fetch the tars first, and give a path or a glob"
        )
    paths = sorted(glob.glob(source))
    if not paths:
        raise UserError(
            f"shard.source {source} matches no file; expected a glob of tars, data/{{00..09}}.tar as data/*.tar"
        )
    root = os.path.commonpath([Path(path).parent for path in paths])
    images = [image for path in paths for image in _tar_images(path, os.path.relpath(path, root))]
    labelled = sum(image.cls is not None for image in images)
    if labelled and labelled < len(images):
        raise UserError(
            f"shard.source {source}: {labelled} of {len(images)} samples have a .cls; expected all or none"
        )
    count = 1 + max((image.cls for image in images if image.cls is not None), default=-1)
    return Source(images, tuple(f"{number:04d}" for number in range(count)) or None)


def _tar_images(path: str, shown: str) -> Iterator[SourceImage]:
    """The samples of a tar that have an image."""
    for key, members in tar_members(path).items():
        extension = next((name for name in members if f".{name}" in PICTURES), None)
        if extension is not None:
            label, text = members.get("cls"), members.get("txt")
            lines = [] if text is None else text.read().decode(errors="replace").splitlines()
            yield SourceImage(
                f"{shown}/{key}.{extension}",
                members[extension],
                cls=None if label is None else _class_number(label, key),
                captions=tuple(filter(None, map(clean_caption, lines))),
                mask=members.get("mask.png"),
            )


def _class_number(label: Location, key: str) -> int:
    text = label.read()
    number = int(text) if re.fullmatch(rb"\s*[0-9]{1,9}\s*", text) else -1
    if not 0 <= number < MOST_CLASSES:
        raise UserError(
            f"{label.path}: {key}.cls says {text[:20]!r}; expected a class number, 0 … {MOST_CLASSES - 1}"
        )
    return number


def tar_members(path: str) -> dict[str, dict[str, Location]]:
    """Key → extension → where its bytes are."""
    samples: dict[str, dict[str, Location]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for info in plain_members(tar, Path(path)):
                folder, base = os.path.split(info.name)
                stem, _, extension = base.partition(".")
                members = samples.setdefault(os.path.join(folder, stem), {})
                if extension.lower() in members:
                    raise UserError(
                        f"{path}: the member {info.name!r} stands twice: one of them would be lost"
                    )
                if extension:
                    members[extension.lower()] = Location(path, info.offset_data, info.size)
            check_end(tar, Path(path), f"after {len(samples):,} samples")
    except BROKEN as error:
        raise UserError(f"{path} is no plain tar: {error}") from error
    return samples
