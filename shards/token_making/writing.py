"""Writes a token set: blocks in tars, README and manifest. `shards.tokens` reads them."""

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.images import SPLITS
from shards.token_making.readme import Holds, members_of, readme
from shards.tokens import ARRAYS, TokenBlock, TokenFacts
from shards.tokens.blocks import OFFSETS
from workspace.exact.manifest import Manifest, atomic_path, write_manifest
from workspace.exact.tar import TarWriter


def write_token_shard(path: Path, blocks: Iterable[TokenBlock]) -> None:
    """Write a tar of blocks, whole or not at all; equal blocks give equal bytes."""
    with atomic_path(path) as temporary, TarWriter(temporary) as tar:
        for number, block in enumerate(blocks):
            name = f"{path.stem}_{number:05d}"
            for member, dtype in ARRAYS.items():
                array = getattr(block, member)
                if array is not None:
                    tar.add(f"{name}.{member}.npy", _npy(np.ascontiguousarray(array, dtype)))
            if block.offsets is not None:
                tar.add(f"{name}.{OFFSETS}.npy", _npy(np.ascontiguousarray(block.offsets, np.uint32)))
            tar.add(f"{name}.keys.json", json.dumps(list(block.keys)).encode())
            if block.sources is not None:
                tar.add(f"{name}.sources.json", json.dumps(list(block.sources)).encode())


def _npy(array: NDArray[Any]) -> bytes:
    made = io.BytesIO()
    np.save(made, array, allow_pickle=False)
    return made.getvalue()


def pack_flat(
    positions: NDArray[np.integer], lengths: NDArray[np.integer], num_positions: int
) -> NDArray[np.uint8]:
    """Positions of images one after the other [ΣN], and how many each has [B] → bitmasks [B, ceil(L/8)], as `pack_positions`.

    Raises:
        ValueError: a position outside 0 … L-1, or the same one twice in an image.
    """
    positions = positions.astype(np.int64)
    if positions.size and not 0 <= positions.min() <= positions.max() < num_positions:
        raise ValueError(
            f"positions run {positions.min()} … {positions.max()}, expected 0 … {num_positions - 1}"
        )
    kept_BL = np.zeros((len(lengths), num_positions), np.bool_)
    kept_BL[np.repeat(np.arange(len(lengths)), lengths), positions] = True
    if (kept_BL.sum(axis=1) != lengths).any():
        raise ValueError("a position appears twice in an image, expected N different ones")
    return np.packbits(kept_BL, axis=1, bitorder="big")


def pack_positions(positions_BN: NDArray[np.integer], num_positions: int) -> NDArray[np.uint8]:
    """Positions [B, N] in any order → bitmasks [B, ceil(L/8)], big-endian bits, pad bits 0.

    Raises:
        ValueError: a position outside 0 … L-1, or the same one twice in an image.
    """
    images, kept = positions_BN.shape
    return pack_flat(positions_BN.ravel(), np.full(images, kept), num_positions)


def write_token_manifest(folder: Path, facts: TokenFacts, made_from: Mapping[str, str]) -> Manifest:
    """Write the token set's README and then its manifest, which describes each member too."""
    ragged = facts.fewest_kept is not None
    holds = Holds(facts.classes is not None, facts.text_length is not None, facts.sources, ragged)
    counts = ", ".join(f"{facts.counts[split]:,} {split}" for split in SPLITS)
    text = readme(counts, facts.grid, facts.num_codes, facts.kept_words, holds)
    (folder / "README.md").write_text(text, encoding="utf-8")
    stated = asdict(facts) | {"members": members_of(holds)}
    if not ragged:
        del stated["fewest_kept"]  # sets where all images have N codes keep their bytes
    return write_manifest(folder, "token-shards", stated, made_from)
