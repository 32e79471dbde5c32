"""Look at a source of images before making shards from it: `python -m shards.inspect SOURCE`.

Prints the layout (guessed, or the one given), images and their sizes, classes, splits, captions, which files are skipped and why,
what to know before training, and the lines for params.yaml. No picture is decoded; the headers of some are read.
"""

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from statistics import median_low
from typing import get_args

import yaml

from shards.images.opening import NO_IMAGE, opened
from shards.layouts.formats import LINK_TO_NOTHING, leads_nowhere, told_passed_over
from shards.layouts.guess import Guess
from shards.layouts.listed import Source, SourceImage, shown_name
from shards.layouts.reading import ColumnUse, Reading, Role, level
from shards.layouts.remote import listing_for
from shards.layouts.tars import folder_and_pattern
from shards.layouts.walking import files_of
from shards.making.duplicates import tallied, told_duplicates, twins_of
from shards.making.sources import PLAIN, Kind, checked, guessed, list_source
from shards.making.splits import with_splits
from shards.making.writing import reason
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.seeds import hashed_unit, seed_argument
from workspace.progress import say
from workspace.stores.addresses import is_url, local_path

SAMPLED = 200
"""Number of images whose header is read to learn their sizes."""
MOST_CLASSES, MOST_FOLDERS = 12, 12
EXAMPLES = 3


@dataclass(frozen=True)
class Asked:
    """The source to inspect, and how.

    Attributes:
        source: as `shard.source`.
        kind: as `shard.kind`.
        reading: as `shard.roles`, `tables` and `columns`.
        val_fraction: as in `shard`.
        seed: as in `shard`.
        duplicates: whether to compare contents.
    """

    source: str
    kind: Kind = "auto"
    reading: Reading = PLAIN
    val_fraction: float = 0.05
    seed: int = 0
    duplicates: bool = False


def inspected(asked: Asked) -> list[str]:
    """The report, line by line.

    Raises:
        UserError: no such source, or one whose parts are unclear.
    """
    made = _made(asked)
    found = with_splits(made.source, asked.val_fraction, asked.seed)
    own = any(image.split == "val" for image in made.source.images)
    lines = [f"{asked.source}: {made.kind}"]
    lines += [f"  not {kind}: {why}" for kind, why in made.others.items()]
    lines += _images(made.source.images, asked.seed)
    lines += _classes(found)
    lines.append(_splits(found, own, asked.val_fraction))
    lines += _captions(found.images)
    if told := told_passed_over(dict(found.passed_over)):
        lines.append(told)
    if asked.duplicates:
        lines.append(told_duplicates(tallied(twins_of(found.images))) or "no duplicates")
    lines += [f"note: {note}" for note in found.notes]
    return [_one_line(line) for line in (*lines, *_settings(asked, made))]


def _one_line(text: str) -> str:
    """The text on one line, even if a file name in it has a line break."""
    return text.replace("\n", "\\n").replace("\r", "\\r")


def _made(asked: Asked) -> Guess:
    if asked.kind != "auto":
        found = list_source(asked.kind, asked.source, asked.reading)
        return Guess(asked.kind, found, asked.reading, {})
    made = guessed(asked.source, asked.reading)
    checked(made.source, asked.source)
    return made


def _images(images: Sequence[SourceImage], seed: int) -> list[str]:
    kinds = Counter(PurePosixPath(image.name).suffix.lower() or "no extension" for image in images)
    told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    sample = sorted(images, key=lambda image: hashed_unit(seed, image.name))[:SAMPLED]
    sizes, bad = list[tuple[int, int]](), dict[str, list[str]]()
    for image in sample:
        try:
            sizes.append(opened(image.data.read()).size)
        except NO_IMAGE as error:
            why = LINK_TO_NOTHING if leads_nowhere(Path(image.data.path)) else reason(error)
            bad.setdefault(why, []).append(shown_name(image.name))
    lines = [f"{len(images):,} images: {told}"]
    if sizes:
        short = sorted(min(size) for size in sizes)
        lines.append(
            f"sizes of {len(sizes):,} of them: short side {short[0]:,} to {short[-1]:,} px, median {median_low(short):,}"
        )
    of = f"of the {len(sample):,} files looked at"
    return [*lines, *(f"{why}: {len(names):,} {of}, such as {names[0]}" for why, names in bad.items())]


def _classes(found: Source) -> list[str]:
    if not found.classes:
        return ["no classes"]
    counts = Counter(image.cls for image in found.images)
    named = [(name, counts[number]) for number, name in enumerate(found.classes)]
    shown = ", ".join(f"{name} {count:,}" for name, count in named[:MOST_CLASSES])
    more = f", and {len(named) - MOST_CLASSES:,} others" if len(named) > MOST_CLASSES else ""
    sizes = [count for _, count in named]
    of = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
    return [f"{len(named):,} classes of {of} images: {shown}{more}"]


def _splits(found: Source, own: bool, val_fraction: float) -> str:
    counts = Counter(image.split for image in found.images)
    how = "the source's own" if own else f"held out, shard.val_fraction {val_fraction:g}"
    return f"splits: train {counts['train']:,}, val {counts['val']:,} ({how})"


def _captions(images: Iterable[SourceImage]) -> list[str]:
    captioned = [image for image in images if image.captions]
    if not captioned:
        return ["no captions"]
    total = sum(len(image.captions) for image in captioned)
    lines = [f"captions: {total:,} of {len(captioned):,} images"]
    return lines + [
        f"  {shown_name(image.name)}: {image.captions[0][:100]}" for image in captioned[:EXAMPLES]
    ]


def _settings(asked: Asked, made: Guess) -> list[str]:
    """The lines for params.yaml."""
    reading, source = made.reading, asked.source
    before = ""
    if is_url(source) and local_path(source) is None:
        source = listing_for(asked.source)
        before = f", after `python -m shards.list {shlex.quote(asked.source)} --out {source}`"
    elif made.kind == "webdataset" and (split := folder_and_pattern(source)):
        source, reading = split[0], replace(reading, tars=split[1])  # DVC watches folders, not globs
    lines = [f"kind: {made.kind}", f"source: {_yaml(source)}"]
    if reading.tars is not None:
        lines.append(f"tars: {_yaml(reading.tars)}")
    if reading.roles:
        lines.append(f"roles: {json.dumps(dict(reading.roles), ensure_ascii=False)}")
    if reading.tables is not None:
        lines.append(f"tables: {json.dumps(reading.tables, ensure_ascii=False)}")
    if reading.columns:
        lines.append(f"columns: {json.dumps(dict(reading.columns), ensure_ascii=False)}")
    return [f"for params.yaml{before}:", "shard:", *(f"  {line}" for line in lines)]


def _yaml(text: str) -> str:
    return str(yaml.safe_dump(text, width=1000).splitlines()[0])


def folders_of(source: str) -> list[str]:
    """The top folders of a source that fits no layout, with the number of images in each."""
    files = files_of(source)
    here = level(files.names, "")
    lines = [
        f"  {name}/ {len(names):,} images" for name, names in sorted(here.folders.items())[:MOST_FOLDERS]
    ]
    if len(here.folders) > MOST_FOLDERS:
        lines.append(f"  and {len(here.folders) - MOST_FOLDERS:,} other folders")
    if here.loose:
        lines.append(f"  {len(here.loose):,} images in no folder")
    told = told_passed_over(files.passed_over())
    return [*lines, *([f"  {told}"] if told else [])]


def _pairs(texts: Sequence[str], what: str, values: Sequence[str], on_left: bool) -> dict[str, str]:
    """Parse `a=b` options; one side must be one of `values`."""
    found = {}
    for text in texts:
        left, equals, right = text.rpartition("=") if not on_left else text.partition("=")
        if not equals or (left if on_left else right) not in values:
            form = f"{what}=NAME" if on_left else f"PATH={what}"
            raise UserError(f"{text!r}: expected {form}, {what} one of {', '.join(values)}")
        found[left] = right
    return found


def _asked(given: argparse.Namespace) -> Asked:
    roles = _pairs(given.role, "ROLE", get_args(Role), on_left=False)
    columns = _pairs(given.column, "USE", get_args(ColumnUse), on_left=True)
    tables = tuple(given.table) if given.table else None
    reading = Reading(roles, tables, columns, given.tars)  # type: ignore[arg-type]
    return Asked(given.source, given.kind, reading, given.val_fraction, given.seed, given.duplicates)


def main() -> None:
    """The command line."""
    parser = parser_of("shards.inspect", __doc__)
    parser.add_argument(
        "source", help="a folder, zip, list of paths, listing, or glob of tars; a path or a URL"
    )
    parser.add_argument("--kind", choices=get_args(Kind), default="auto", help="the layout (guessed)")
    parser.add_argument(
        "--role",
        action="append",
        default=[],
        metavar="PATH=ROLE",
        help="as shard.roles: test=val, extra=skip",
    )
    parser.add_argument(
        "--table", action="append", default=[], metavar="FILE", help="as shard.tables: labels.csv, '*.txt'"
    )
    parser.add_argument(
        "--column", action="append", default=[], metavar="USE=NAME", help="as shard.columns: label=Smiling"
    )
    parser.add_argument("--tars", metavar="GLOB", help="as shard.tars: 'train-{000..099}.tar'")
    parser.add_argument("--val-fraction", type=float, default=0.05, help="as shard.val_fraction (0.05)")
    parser.add_argument("--seed", type=seed_argument, default=0, help="as shard.seed (0)")
    parser.add_argument(
        "--duplicates", action="store_true", help="compare contents too: files of equal size are read"
    )
    given = parser.parse_args()
    say(f"looking at {given.source}: names first, then some headers")
    with mistakes_in_one_line():
        try:
            lines = inspected(_asked(given))
        except UserError as error:
            seen = folders_of(given.source) if Path(given.source).exists() else []
            raise UserError("\n".join([str(error), *(["there are:", *seen] if seen else [])])) from error
        sys.stdout.write("".join(f"{shown_name(line)}\n" for line in lines))


if __name__ == "__main__":
    main()
