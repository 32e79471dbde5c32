"""Token shards: every image as its kept codes and where they sit, in blocks of images, in WebDataset tars.

    {train,val}/000000.tar    samples are blocks of B images:
        BLOCK.codes.npy          uint16 [B, N]          in raster order of their positions
        BLOCK.mask.npy           uint8 [B, ceil(L/8)]   bit l (big-endian) is set where cell l was kept; pad bits 0
        BLOCK.cls.npy            uint16 [B]             where the images have classes
        BLOCK.text.npy           uint16 [B, C, N_c]     captions in BPE codes, pad 0, and
        BLOCK.caption_count.npy  uint8 [B]              how many of the C are captions
        BLOCK.keys.json          B strings, unique in a split; augmented copies are KEY+1, …

The bitmask is the positions: raster order makes them ascend.
"""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.images import SPLITS
from shards.readme import README
from shards.tar import TarWriter, iterate_tar
from workspace.errors import UserError
from workspace.manifest import Manifest, atomic_path, read_manifest, write_manifest

TEXT_TOKENIZER = "text_tokenizer.json"


@dataclass(frozen=True)
class TokenFacts:
    """What is true of a whole token data set; a stage-2 model takes these, never params.

    Attributes:
        grid: cells down and across; L is their product.
        num_codes: K.
        num_kept: N.
        classes: class names, or None.
        text_length: N_c, BPE codes a caption; None without captions.
        text_vocab: how many text codes there are, the pad id 0 counted; None without captions.
        counts: images of each split, augmented copies included.
        mask: adaptive, random or none: how cells were ranked.
        mqvae: fingerprint of the MQ-VAE whose codes these are.
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

    @property
    def num_positions(self) -> int:
        """L."""
        return self.grid[0] * self.grid[1]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TokenFacts":
        """From a manifest's facts."""
        classes = None if value["classes"] is None else tuple(value["classes"])
        return cls(**{**value, "grid": tuple(value["grid"]), "classes": classes})


def pack_positions(positions_BN: NDArray[np.integer], num_positions: int) -> NDArray[np.uint8]:
    """Positions [B, N], distinct, in 0 … L-1 → bitmasks [B, ceil(L/8)], big-endian bits, pad bits 0."""
    kept_BL = np.zeros((len(positions_BN), num_positions), np.bool_)
    np.put_along_axis(kept_BL, positions_BN.astype(np.int64), True, axis=1)
    return np.packbits(kept_BL, axis=1, bitorder="big")


def unpack_positions(mask: NDArray[np.uint8], num_positions: int, num_kept: int) -> NDArray[np.int64]:
    """Bitmasks [B, ceil(L/8)] → positions [B, N], ascending.

    Raises:
        ValueError: a row has not exactly N bits set.
    """
    kept_BL = np.unpackbits(mask, axis=1, count=num_positions, bitorder="big")
    found = kept_BL.sum(axis=1, dtype=np.int64)
    if (found != num_kept).any():
        row = int(np.argmax(found != num_kept))
        raise ValueError(f"row {row} of the bitmask has {found[row]} bits set, expected N = {num_kept}")
    return np.nonzero(kept_BL)[1].reshape(len(mask), num_kept)


@dataclass(frozen=True)
class TokenBlock:
    """A block of images; shapes and dtypes as in the module's docstring."""

    keys: tuple[str, ...]
    codes: NDArray[np.uint16]
    mask: NDArray[np.uint8]
    cls: NDArray[np.uint16] | None
    text: NDArray[np.uint16] | None
    caption_count: NDArray[np.uint8] | None


@dataclass(frozen=True)
class TokenSplit(TokenBlock):
    """A whole split in memory: its blocks, one after the other, in the order of the files."""

    shard_sizes: tuple[int, ...]


ARRAYS = {
    "codes": np.uint16,
    "mask": np.uint8,
    "cls": np.uint16,
    "text": np.uint16,
    "caption_count": np.uint8,
}


def write_token_shard(path: Path, blocks: Iterable[TokenBlock]) -> None:
    """Write a tar of blocks, whole or not at all; equal blocks give equal bytes."""
    with atomic_path(path) as temporary, TarWriter(temporary) as tar:
        for number, block in enumerate(blocks):
            name = f"{path.stem}_{number:05d}"
            for field, dtype in ARRAYS.items():
                array = getattr(block, field)
                if array is not None:
                    tar.add(f"{name}.{field}.npy", _npy(np.ascontiguousarray(array, dtype)))
            tar.add(f"{name}.keys.json", json.dumps(list(block.keys)).encode())


def _npy(array: NDArray[Any]) -> bytes:
    made = io.BytesIO()
    np.save(made, array, allow_pickle=False)
    return made.getvalue()


def read_token_shard(path: Path) -> Iterator[TokenBlock]:
    """The blocks of one tar, in order, not yet checked against the facts.

    Raises:
        UserError: a damaged tar, a block without codes, mask or keys, or arrays of unequal length.
    """
    name, members = "", dict[str, bytes]()
    for member, data in iterate_tar(path):
        stem, _, field = member.partition(".")
        if members and stem != name:
            yield _block(path, name, members)
            members = {}
        name = stem
        members[field] = data
    if members:
        yield _block(path, name, members)


def _block(path: Path, name: str, members: Mapping[str, bytes]) -> TokenBlock:
    for field in ("codes.npy", "mask.npy", "keys.json"):
        if field not in members:
            raise UserError(f"{path}: the block {name} lacks {field}")
    try:
        keys = tuple(json.loads(members["keys.json"]))
        arrays = {
            field: np.load(io.BytesIO(members[f"{field}.npy"]), allow_pickle=False)
            for field in ARRAYS
            if f"{field}.npy" in members
        }
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: the block {name} is damaged: {error}") from error
    for field, array in arrays.items():
        if array.dtype != ARRAYS[field] or len(array) != len(keys):
            raise UserError(
                f"{path}: {name}.{field}.npy is {array.dtype} with {len(array)} rows; "
                f"expected {np.dtype(ARRAYS[field])} with {len(keys)}"
            )
    return TokenBlock(keys, **{field: arrays.get(field) for field in ARRAYS})  # type: ignore[arg-type]


def check_block(block: TokenBlock, facts: TokenFacts, where: str) -> None:
    """Check a block against the facts of its data set.

    Raises:
        UserError: a wrong shape, a code ≥ K, a row without N positions, a pad bit that is set, a class that has no name.
    """
    length, kept = facts.num_positions, facts.num_kept
    count = len(block.keys)
    for name, array, shape in (
        ("codes", block.codes, (count, kept)),
        ("mask", block.mask, (count, -(-length // 8))),
    ):
        if array.shape != shape:
            raise UserError(f"{where}: {name} has shape {array.shape}, expected {shape}")
    if count and int(block.codes.max()) >= facts.num_codes:
        raise UserError(f"{where}: code {int(block.codes.max())} is not below K = {facts.num_codes}")
    bits = np.unpackbits(block.mask, axis=1, bitorder="big")
    if bits[:, length:].any():
        raise UserError(f"{where}: a pad bit of the mask is set beyond L = {length}")
    if (bits.sum(axis=1, dtype=np.int64) != kept).any():
        raise UserError(f"{where}: a row of the mask has not N = {kept} positions")
    if facts.classes is not None and (
        block.cls is None or int(block.cls.max(initial=0)) >= len(facts.classes)
    ):
        raise UserError(f"{where}: the classes are missing or not below {len(facts.classes)}")
    if facts.text_length is not None and (block.text is None or block.caption_count is None):
        raise UserError(f"{where}: the captions are missing")


@dataclass(frozen=True)
class TokenShards:
    """An artifact of kind `token-shards`, opened.

    Attributes:
        folder: where it is.
        manifest: what it says of itself.
        facts: what is true of all its images.
    """

    folder: Path
    manifest: Manifest
    facts: TokenFacts

    @classmethod
    def open(cls, folder: Path) -> "TokenShards":
        """Read and check the manifest; UserError where something is missing."""
        manifest = read_manifest(folder, "token-shards")
        return cls(folder, manifest, TokenFacts.from_json(manifest.facts))

    def paths(self, split: str) -> list[Path]:
        """The split's tars, in order."""
        return [self.folder / name for name in sorted(self.manifest.files) if name.startswith(f"{split}/")]

    def load(self, split: str) -> TokenSplit:
        """The whole split in memory, checked.

        Raises:
            UserError: a block that does not fit the facts, a key that is there twice, another count than stated.
        """
        blocks, sizes = [], []
        for path in self.paths(split):
            found = list(read_token_shard(path))
            for number, block in enumerate(found):
                check_block(block, self.facts, f"{path}, block {number}")
            blocks += found
            sizes.append(sum(len(block.keys) for block in found))
        keys = [key for block in blocks for key in block.keys]
        if len(set(keys)) != len(keys):
            raise UserError(f"{self.folder}: a key stands twice in the split {split}")
        if len(keys) != self.facts.counts[split]:
            raise UserError(
                f"{self.folder}: the split {split} has {len(keys):,} images, its manifest says {self.facts.counts[split]:,}"
            )
        return TokenSplit(tuple(keys), **_concatenated(blocks), shard_sizes=tuple(sizes))


def _concatenated(blocks: Sequence[TokenBlock]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in ARRAYS:
        arrays = [getattr(block, field) for block in blocks]
        found[field] = None if not arrays or arrays[0] is None else np.concatenate(arrays)
    return found


def write_token_manifest(folder: Path, facts: TokenFacts, made_from: Mapping[str, str]) -> Manifest:
    """Write the README of the data set and, last of all, its manifest."""
    text = README.format(
        images=", ".join(f"{facts.counts[split]:,} {split}" for split in SPLITS),
        N=facts.num_kept,
        L=facts.num_positions,
        K=facts.num_codes,
        height=facts.grid[0],
        width=facts.grid[1],
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    return write_manifest(folder, "token-shards", asdict(facts), made_from)
