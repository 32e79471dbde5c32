"""Make token sets from others: `python -m shards.token_sets merge A B --out C`, `… subset A --out B --classes cat,dog`.

The result is an artifact like any other: blocks in tars, a README, a sealed manifest that names what it was made from;
`python -m shards.verify DIR` checks it, and `train_stackformer --tokens DIR` reads it. `… names A` prints a table of keys and
source names, by which you can join tokens with your own tables.
"""

import csv
import io
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.images import SPLITS
from shards.token_making.writing import write_token_manifest, write_token_shard
from shards.tokens import TEXT_TOKENIZER, TokenFacts, TokenShards, TokenSplit, check_block, sources_of
from shards.tokens.blocks import ARRAYS, TokenBlock, joined_offsets
from shards.verify import verify_tokens
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.seeds import hashed_unit
from workspace.progress import say
from workspace.runs import publish

BLOCK, BLOCKS = 512, 64
"""Images in a block, blocks in a tar."""


def taken(block: TokenBlock, rows: NDArray[np.integer]) -> TokenBlock:
    """The images of a block selected by `rows`, in that order."""
    arrays: dict[str, Any] = {
        name: None if (array := getattr(block, name)) is None else array[rows]
        for name in ARRAYS
        if name != "codes"
    }
    arrays["codes"], offsets = block.codes_at(rows)
    sources = None if block.sources is None else tuple(block.sources[row] for row in rows)
    keys = tuple(block.keys[row] for row in rows)
    return TokenBlock(keys, **arrays, sources=sources, offsets=offsets)


def blocks_of(split: TokenBlock) -> Iterator[TokenBlock]:
    """Cut a split into blocks."""
    for first in range(0, len(split.keys), BLOCK):
        yield taken(split, np.arange(first, min(first + BLOCK, len(split.keys))))


def write_set(
    out: Path,
    facts: TokenFacts,
    splits: Mapping[str, TokenBlock],
    made_from: Mapping[str, str],
    tokenizer: Path | None = None,
) -> None:
    """Write a token set atomically, and verify it.

    Args:
        out: the folder, which must not exist.
        facts: the facts of the set; the counts are filled in, and the range of N where images have different numbers of codes.
        splits: its train and val splits.
        made_from: name → fingerprint.
        tokenizer: the captions' tokenizer file.

    Raises:
        UserError: `out` exists, a split is empty, a key appears twice, or a block does not fit the facts.
    """
    if out.exists():
        raise UserError(f"{out} already exists: remove it, or name another --out")
    lengths = np.concatenate([block.lengths for block in splits.values()])
    if facts.fewest_kept is not None and lengths.size:
        facts = replace(facts, fewest_kept=int(lengths.min()), num_kept=int(lengths.max()))
    making = out.with_name(f".{out.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    try:
        sizes = {split: _write_split(making / split, splits[split], facts) for split in SPLITS}
        if tokenizer is not None:
            shutil.copyfile(tokenizer, making / TEXT_TOKENIZER)
        counts = {split: len(splits[split].keys) for split in SPLITS}
        write_token_manifest(making, replace(facts, counts=counts, shards=sizes), made_from)
        told = verify_tokens(TokenShards.open(making))
        publish(making, out, link=True)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    say(told.replace(str(making), str(out)))


def _write_split(folder: Path, block: TokenBlock, facts: TokenFacts) -> tuple[int, ...]:
    """Write the tars of a split, whose name the folder has; returns the images of each."""
    split = folder.name
    if not block.keys:
        raise UserError(
            f"the split {split} would be empty: a token set needs images in train and in val; choose some of each, or "
            "pack with another --val-fraction"
        )
    name, count = Counter(block.keys).most_common(1)[0]
    if count > 1:
        raise UserError(f"the key {name} appears {count} times in {split}; keys are unique in a split")
    blocks = list(blocks_of(block))
    groups = [blocks[first : first + BLOCKS] for first in range(0, len(blocks), BLOCKS)]
    for number, group in enumerate(groups):
        for one in group:
            check_block(one, facts, f"split {split}")
        write_token_shard(folder / f"{number:06d}.tar", group)
    return tuple(sum(len(one.keys) for one in group) for group in groups)


def merge(folders: Sequence[Path], out: Path) -> None:
    """Merge several sets, split by split; classes are matched by name.

    Captions and sources are kept (sources are "" for a set without them); if sets share a key, all keys get their set's name
    as a prefix.

    Sets whose images have different numbers of codes merge with one another, whatever the numbers.

    Raises:
        UserError: fewer than two sets, or sets that differ in grid, K, N, MQ-VAE, captions, or in having classes.
    """
    if len(folders) < 2:
        raise UserError("merge needs two or more token sets")
    sets = [TokenShards.open(folder) for folder in folders]
    first = sets[0]
    for other in sets[1:]:
        _check_alike(first, other)
    names = None
    if first.facts.classes is not None:
        names = tuple(dict.fromkeys(name for one in sets for name in one.facts.classes or ()))
    called = [one.folder.name for one in sets]
    called = called if len(set(called)) == len(called) else [str(number) for number in range(len(sets))]
    loaded = {
        split: [_renumbered(one.load(split), one.facts.classes, names) for one in sets] for split in SPLITS
    }
    if any(map(_share_a_key, loaded.values())):
        loaded = {
            split: [_prefixed(part, name) for name, part in zip(called, parts, strict=True)]
            for split, parts in loaded.items()
        }
    splits = {split: _joined(parts) for split, parts in loaded.items()}
    made_from = {"mqvae": first.facts.mqvae}
    made_from |= {f"tokens {number}": one.manifest.fingerprint for number, one in enumerate(sets)}
    facts = replace(first.facts, classes=names, sources=splits["train"].sources is not None)
    write_set(out, facts, splits, made_from, _tokenizer(first))


def _check_alike(first: TokenShards, other: TokenShards) -> None:
    texts = [_tokenizer(one) for one in (first, other)]
    if texts[0] is not None and texts[1] is not None and texts[0].read_bytes() != texts[1].read_bytes():
        raise UserError(
            f"{first.folder} and {other.folder} have different text tokenizers and cannot be merged; pack one of them with the "
            f"other's, --text-tokenizer {texts[0]}"
        )
    ragged = [one.facts.fewest_kept is not None for one in (first, other)]
    sizes = () if all(ragged) else ("kept_words",)
    for name in ("grid", "num_codes", *sizes, "mask", "mqvae", "text_length", "text_vocab"):
        one, two = getattr(first.facts, name), getattr(other.facts, name)
        if one != two:
            raise UserError(
                f"{first.folder} has {name.replace('kept_words', 'N')} {one}, {other.folder} has {two}: they cannot be merged"
            )
    if (first.facts.classes is None) != (other.facts.classes is None):
        raise UserError(f"only one of {first.folder} and {other.folder} has classes: they cannot be merged")


def _tokenizer(shards: TokenShards) -> Path | None:
    return shards.tokenizer if shards.facts.text_length is not None else None


def _renumbered(split: TokenSplit, old: tuple[str, ...] | None, new: tuple[str, ...] | None) -> TokenBlock:
    arrays = {name: getattr(split, name) for name in ARRAYS}
    if split.cls is not None and old is not None and new is not None:
        arrays["cls"] = np.array([new.index(name) for name in old], np.uint16)[split.cls]
    return TokenBlock(split.keys, **arrays, sources=split.sources, offsets=split.offsets)


def _share_a_key(parts: Sequence[TokenBlock]) -> bool:
    return len({key for part in parts for key in part.keys}) < sum(len(part.keys) for part in parts)


def _prefixed(part: TokenBlock, name: str) -> TokenBlock:
    return replace(part, keys=tuple(f"{name}/{key}" for key in part.keys))


def _joined(parts: Sequence[TokenBlock]) -> TokenBlock:
    """Concatenate blocks; captions are padded to the most that any image has."""
    arrays: dict[str, Any] = {}
    for name in ARRAYS:
        found = [getattr(part, name) for part in parts]
        if name == "text" and found[0] is not None:
            most = max(array.shape[1] for array in found)
            found = [np.pad(array, ((0, 0), (0, most - array.shape[1]), (0, 0))) for array in found]
        arrays[name] = None if found[0] is None else np.concatenate(found)
    keys = tuple(key for part in parts for key in part.keys)
    return TokenBlock(keys, **arrays, sources=sources_of(parts), offsets=joined_offsets(parts))


@dataclass(frozen=True)
class Choice:
    """The images of a set to take: those that satisfy all of these.

    Attributes:
        classes: class names; empty takes all.
        count: most images per split, chosen by a hash of the key.
        keys: a text file, one key per line.
        sources: a text file, one source name per line; all copies of an image are taken.
    """

    classes: Sequence[str] = ()
    count: int | None = None
    keys: Path | None = None
    sources: Path | None = None


def subset(folder: Path, out: Path, choice: Choice) -> None:
    """Write a set with some images of another.

    Raises:
        UserError: the set lacks a class, key or source that was named, or has fewer images than asked for.
    """
    shards = TokenShards.open(folder)
    names = shards.facts.classes
    unknown = [name for name in choice.classes if name not in (names or ())]
    if unknown:
        raise UserError(f"{folder} has no class {unknown[0]}; it has {', '.join(names or ()) or 'none'}")
    loaded = {split: shards.load(split) for split in SPLITS}
    keys = _wanted(choice.keys, "keys", [split.keys for split in loaded.values()], folder)
    if choice.sources is not None and not shards.facts.sources:
        raise UserError(f"{folder} does not have its images' sources: choose by --keys, or make it again")
    sources = _wanted(choice.sources, "sources", [split.sources or () for split in loaded.values()], folder)
    kept = tuple(choice.classes) or names
    splits = {}
    for split, block in loaded.items():
        rows = [
            row
            for row in range(len(block.keys))
            if (keys is None or block.keys[row] in keys)
            and (sources is None or (block.sources or ())[row] in sources)
            and (names is None or kept is None or block.cls is None or names[int(block.cls[row])] in kept)
        ]
        part = taken(block, np.array(_counted(rows, block, split, choice.count), np.int64))
        if names is not None and kept is not None and part.cls is not None:
            numbers = [kept.index(names[int(number)]) for number in part.cls]
            part = replace(part, cls=np.array(numbers, np.uint16))
        splits[split] = part
    made_from = {"mqvae": shards.facts.mqvae, "tokens": shards.manifest.fingerprint}
    write_set(out, replace(shards.facts, classes=kept), splits, made_from, _tokenizer(shards))


def _wanted(path: Path | None, what: str, there: Sequence[Sequence[str]], folder: Path) -> set[str] | None:
    """The names in a file, one per line; UserError if the set lacks one."""
    if path is None:
        return None
    wanted = set(lines_of(path)) - {""}
    absent = wanted.difference(*there)
    if absent:
        raise UserError(
            f"{path} names {len(absent):,} {what} that {folder} does not have, such as {min(absent)}"
        )
    return wanted


def _counted(rows: Sequence[int], block: TokenBlock, split: str, count: int | None) -> Sequence[int]:
    if count is None:
        return rows
    if count < 1:
        raise UserError(f"--count {count} is not a number of images; expected 1 or more")
    if split == "train" and count > len(rows):
        raise UserError(f"--count {count:,} is more than the {len(rows):,} images of {split}")
    return sorted(sorted(rows, key=lambda row: hashed_unit(0, block.keys[row]))[:count])


def lines_of(path: Path) -> list[str]:
    """The lines of a text file; UserError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def table_of(folder: Path) -> Iterator[tuple[str, ...]]:
    """A header, then each image's split, key, source and class; empty if the set does not have it."""
    shards = TokenShards.open(folder)
    classes = shards.facts.classes or ()
    yield "split", "key", "source", "class"
    for split in SPLITS:
        block = shards.load(split)
        sources = block.sources or [""] * len(block.keys)
        labels = (
            [""] * len(block.keys)
            if block.cls is None
            else [classes[number] for number in block.cls.tolist()]
        )
        yield from ((split, *row) for row in zip(block.keys, sources, labels, strict=True))


def print_table(folder: Path) -> None:
    """Print that table to standard output in UTF-8, separated by tabs."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    csv.writer(sys.stdout, "excel-tab", lineterminator="\n").writerows(table_of(folder))


def main() -> None:
    """The command line."""
    parser = parser_of("shards.token_sets", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    merging = commands.add_parser("merge", help="merge several sets into one")
    merging.add_argument("folders", type=Path, nargs="+", help="token sets by the same MQ-VAE")
    choosing = commands.add_parser("subset", help="take some images of a set")
    choosing.add_argument("folder", type=Path, help="a token set")
    choosing.add_argument("--classes", default="", help="class names, separated by commas")
    choosing.add_argument("--count", type=int, help="most images per split, chosen by a hash of the key")
    choosing.add_argument("--keys", type=Path, help="a text file, one key per line")
    choosing.add_argument("--sources", type=Path, help="a text file, one source name per line: cat/001.png")
    naming = commands.add_parser(
        "names", help="print a table of split, key, source name and class, separated by tabs"
    )
    naming.add_argument("folder", type=Path, help="a token set")
    for command in (merging, choosing):
        command.add_argument("--out", type=Path, required=True, help="the folder to write")
    asked = parser.parse_args()
    with mistakes_in_one_line():
        if asked.command == "merge":
            merge(asked.folders, asked.out)
        elif asked.command == "names":
            print_table(asked.folder)
        else:
            classes = [name for name in asked.classes.split(",") if name]
            subset(asked.folder, asked.out, Choice(classes, asked.count, asked.keys, asked.sources))


if __name__ == "__main__":
    main()
