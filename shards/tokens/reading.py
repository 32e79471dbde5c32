"""Token shards: every image as its kept codes and their positions, in blocks of images, in WebDataset tars.

{train,val}/000000.tar    samples are blocks of B images: see `shards.tokens.blocks`
text_tokenizer.json       the captions' tokenizer, if there are captions
README.md, manifest.json  description of the blocks, for readers without this code
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.tokens.blocks import ARRAYS, TokenBlock, joined_offsets, read_token_shard
from shards.tokens.mapped import MappedTokens, TokenRows, row_numbers
from workspace.errors import UserError
from workspace.exact.manifest import Manifest, read_manifest, validated, verify_file
from workspace.exact.order import MOST_IN_MEMORY
from workspace.exact.splits import known_split

TEXT_TOKENIZER = "text_tokenizer.json"
SAME_PLACES = ("none", "checkerboard")
"""Masks under which N alone decides which cells an image keeps."""
MOST_CODES = 1 << 16
"""Codes are stored as uint16."""


@dataclass(frozen=True)
class TokenFacts:
    """Facts about a whole token set; stage 2 takes its model's sizes from these, never from params.

    Attributes:
        grid: cells down and across; L is their product.
        num_codes: K.
        num_kept: N; the most codes of an image where they have different numbers of them.
        classes: class names, or None.
        text_length: N_c, BPE codes per caption; None without captions.
        text_vocab: number of text codes, including padding, code 0; None without captions.
        counts: images per split, including augmented copies.
        mask: adaptive, random or none: how cells were ranked.
        mqvae: fingerprint of the MQ-VAE that made the codes.
        sources: whether blocks have source names; older sets do not.
        fewest_kept: the fewest codes of an image where images have different numbers of them; None where all have N.
        shards: split → images in each of its tars, in order; None in older sets, which are read whole.
    """

    grid: tuple[int, int]
    num_codes: int
    num_kept: int
    classes: tuple[str, ...] | None
    text_length: int | None
    text_vocab: int | None
    counts: Mapping[str, int]
    mask: str
    mqvae: str
    sources: bool = False
    fewest_kept: int | None = None
    shards: Mapping[str, tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        height, width = self.grid
        if self.fewest_kept is not None and not 1 <= self.fewest_kept <= self.num_kept:
            raise ValueError(f"fewest_kept = {self.fewest_kept} is not in 1 … N = {self.num_kept}")
        if min(height, width) < 1 or not 1 <= self.num_kept <= height * width:
            raise ValueError(f"N = {self.num_kept} is not in 1 … L of a grid of {height} × {width}")
        for name, count in (("K", self.num_codes), ("text_vocab", self.text_vocab)):
            if count is not None and not 1 <= count <= MOST_CODES:
                raise ValueError(f"{name} = {count:,} does not fit uint16: expected 1 … {MOST_CODES:,}")
        if (self.text_length is None) != (self.text_vocab is None) or (self.text_length or 1) < 1:
            raise ValueError(f"text_length is {self.text_length} and text_vocab {self.text_vocab}")

    @property
    def num_positions(self) -> int:
        """L."""
        return self.grid[0] * self.grid[1]

    @property
    def same_places(self) -> bool:
        """Whether all images of N codes have them at the same positions, which then need no bits."""
        return self.mask in SAME_PLACES

    @property
    def kept_words(self) -> str:
        """N, or its range, as text."""
        return str(self.num_kept) if self.fewest_kept is None else f"{self.fewest_kept} … {self.num_kept}"

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TokenFacts":
        """From a manifest's facts; UserError where one is missing, of another type or out of range."""
        return validated(cls, value, "the facts of token shards")


@dataclass(frozen=True)
class TokenSplit(TokenBlock):
    """A whole split in memory: its blocks concatenated in file order."""

    shard_sizes: tuple[int, ...]

    def __len__(self) -> int:
        """Images."""
        return len(self.keys)

    def lengths_of(self, rows_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of codes of the images with these numbers, [B]."""
        if self.offsets is None:
            return np.full(len(rows_B), self.codes.shape[1], np.int64)
        return (self.offsets[rows_B + 1] - self.offsets[rows_B]).astype(np.int64)

    def rows(self, rows_B: NDArray[np.int64]) -> TokenRows:
        """The images with these numbers, 0 … len - 1, copied; IndexError if there is no such number."""
        rows_B = row_numbers(rows_B, len(self))
        arrays = {name: getattr(self, name) for name in ARRAYS if name != "codes"}
        found = {name: None if array is None else array[rows_B] for name, array in arrays.items()}
        return TokenRows(codes=self.codes_at(rows_B)[0], **found)  # type: ignore[arg-type]


def check_block(block: TokenBlock, facts: TokenFacts, where: str) -> None:
    """Check a block against its set's facts; errors begin with `where`.

    Raises:
        UserError: a wrong shape, a code ≥ K, a row without exactly N positions, a set pad bit, a class without a name, or
            captions that do not fit.
    """
    length, kept, count = facts.num_positions, facts.num_kept, len(block.keys)
    ragged = facts.fewest_kept is not None
    expect((block.offsets is not None) == ragged, where, "offsets are not where the manifest says")
    expect(
        ragged or block.codes.shape == (count, kept),
        where,
        f"codes {block.codes.shape} do not have N = {kept} columns",
    )
    top = int(block.codes.max(initial=0))
    expect(top < facts.num_codes, where, f"code {top} is not below K = {facts.num_codes}")
    packed = -(-length // 8)
    expect(
        block.kept.shape == (count, packed),
        where,
        f"kept {block.kept.shape} does not have {packed} bytes per row",
    )
    pad = block.kept[:, -1] & ((1 << 8 * packed - length) - 1)
    expect(not pad.any(), where, f"a pad bit of kept is set, beyond L = {length}")
    found = np.bitwise_count(block.kept).sum(axis=1, dtype=np.int64)
    lengths = block.lengths
    for row in np.flatnonzero(found != lengths)[:1]:
        raise UserError(f"{where}: row {row} of kept has {found[row]} positions, not N = {lengths[row]}")
    for row in np.flatnonzero((lengths < (facts.fewest_kept or kept)) | (lengths > kept))[:1]:
        raise UserError(f"{where}: image {row} has {lengths[row]} codes, not N = {facts.kept_words}")
    expect((block.sources is not None) == facts.sources, where, "sources are not where the manifest says")
    check_condition(block, facts, where)


def check_condition(block: TokenBlock, facts: TokenFacts, where: str) -> None:
    """Check a block's classes and captions."""
    expect((block.cls is None) == (facts.classes is None), where, "classes are not where the manifest says")
    if block.cls is not None and facts.classes is not None:
        top, names = int(block.cls.max(initial=0)), len(facts.classes)
        expect(block.cls.ndim == 1 and top < names, where, f"class {top} is not one of {names}")
    for array in (block.text, block.caption_count):
        expect(
            (array is None) == (facts.text_length is None), where, "captions are not where the manifest says"
        )
    if block.text is None or block.caption_count is None or facts.text_vocab is None:
        return
    shape, top = block.text.shape, int(block.text.max(initial=0))
    expect(
        len(shape) == 3 and shape[2] == facts.text_length,
        where,
        f"text {shape} does not have N_c = {facts.text_length}",
    )
    expect(block.caption_count.ndim == 1, where, "caption_count is not one number per image")
    expect(top < facts.text_vocab, where, f"text code {top} is not below {facts.text_vocab}")
    most = int(block.caption_count.max(initial=0))
    expect(most <= shape[1], where, f"{most} captions are counted where there is room for {shape[1]}")


def expect(holds: bool, where: str, wrong: str) -> None:
    """Raise a UserError that names the place and the fault, unless the condition holds."""
    if not holds:
        raise UserError(f"{where}: {wrong}: run `dvc repro tokenize`")


def check_count(found: int, facts: TokenFacts, split: str, where: str) -> None:
    """Check the number of images of a split."""
    stated = facts.counts.get(split, 0)
    expect(found == stated, where, f"{found:,} images, but its manifest says {stated:,}")
    expect(found > 0, where, "there are no images")


def check_tar_count(path: Path, found: int, facts: TokenFacts) -> None:
    """Check the number of images of a tar, if the set says it."""
    sizes = (facts.shards or {}).get(path.parent.name)
    number = int(path.stem) if path.stem.isdigit() else -1
    if sizes is not None and 0 <= number < len(sizes):
        stated = sizes[number]
        expect(found == stated, str(path), f"{found:,} images, but its manifest says {stated:,}")


@dataclass(frozen=True)
class TokenShards:
    """An artifact of kind `token-shards`, opened.

    Attributes:
        folder: where it is.
        manifest: its manifest.
        facts: what holds for all its images.
    """

    folder: Path
    manifest: Manifest
    facts: TokenFacts

    @classmethod
    def open(cls, folder: str | Path) -> "TokenShards":
        """Read and check the manifest; UserError if something is missing."""
        folder = Path(folder).expanduser()
        manifest = read_manifest(folder, "token-shards")
        try:
            facts = TokenFacts.from_json(manifest.facts)
        except UserError as error:
            raise UserError(
                f"the manifest of {folder} does not state {error}: run `dvc repro tokenize`"
            ) from error
        return cls(folder, manifest, facts)

    def paths(self, split: str) -> list[Path]:
        """The split's tars, in order; UserError unless it is train or val."""
        known_split(split)
        names = sorted(self.manifest.files)
        return [
            self.folder / name for name in names if name.startswith(f"{split}/") and name.endswith(".tar")
        ]

    @property
    def tokenizer(self) -> Path:
        """The captions' tokenizer file, if there are captions."""
        return self.folder / TEXT_TOKENIZER

    def split(self, split: str) -> "TokenSplit | MappedTokens":
        """A split for training: in memory and checked if it has at most 2²⁰ images, else in place.

        Older sets are always in memory.

        Raises:
            UserError: as `load`, or as `MappedTokens` when a row is asked for.
        """
        sizes = (self.facts.shards or {}).get(known_split(split))
        if sizes is None or sum(sizes) <= MOST_IN_MEMORY:
            return self.load(split)
        return self.mapped(split)

    def mapped(self, split: str) -> MappedTokens:
        """A split in place; the set must say how many images each tar has."""
        if self.facts.shards is None:
            raise UserError(f"{self.folder} was made by an earlier version, and is read whole: take `load`")
        known_split(split)
        found, stated = sum(self.facts.shards[split]), self.facts.counts.get(split, 0)
        where = f"{self.folder}, split {split}"
        expect(found == stated, where, f"{found:,} images in its tars, but its manifest says {stated:,}")

        check = partial(check_block, facts=self.facts)  # not a closure: a spawned worker takes it too
        return MappedTokens(self.folder, self.manifest, check, split, self.facts.shards[split])

    def blocks(self, path: Path) -> Iterator[TokenBlock]:
        """The blocks of one of its tars, in order, each checked against the facts."""
        for number, block in enumerate(read_token_shard(path)):
            check_block(block, self.facts, f"{path}, block {number}")
            yield block

    def load(self, split: str) -> TokenSplit:
        """The whole split in memory, checked.

        Raises:
            UserError: a file changed since it was written, a block does not fit the facts, a key appears twice, or the count
                differs from the manifest's; the error names file and block.
        """
        blocks, sizes = list[TokenBlock](), list[int]()
        for path in self.paths(split):
            verify_file(self.folder, self.manifest, path.relative_to(self.folder).as_posix())
            found = list(self.blocks(path))
            blocks += found
            sizes.append(sum(len(block.keys) for block in found))
        where = f"{self.folder}, split {split}"
        keys = tuple(key for block in blocks for key in block.keys)
        twice = Counter(keys).most_common(1)[0][0] if len(set(keys)) < len(keys) else None
        expect(twice is None, where, f"the key {twice} appears twice")
        check_count(len(keys), self.facts, split, where)
        return TokenSplit(
            keys,
            **_concatenated(blocks, where),
            sources=sources_of(blocks),
            offsets=joined_offsets(blocks),
            shard_sizes=tuple(sizes),
        )


def sources_of(blocks: Sequence[TokenBlock]) -> tuple[str, ...] | None:
    """The source names of several blocks; None if no block has any, "" for the images of a block without."""
    if all(block.sources is None for block in blocks):
        return None
    return tuple(name for block in blocks for name in block.sources or [""] * len(block.keys))


def _concatenated(blocks: Sequence[TokenBlock], where: str) -> dict[str, Any]:
    texts = {block.text.shape[1:] for block in blocks if block.text is not None}
    expect(len(texts) <= 1, where, f"blocks have room for different numbers of captions: {sorted(texts)}")
    found: dict[str, Any] = {}
    for field in ARRAYS:
        arrays = [getattr(block, field) for block in blocks]
        found[field] = None if arrays[0] is None else np.concatenate(arrays)
    return found
