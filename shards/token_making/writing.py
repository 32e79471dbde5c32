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
            tar.add(f"{name}.keys.json", json.dumps(list(block.keys)).encode())
            if block.sources is not None:
                tar.add(f"{name}.sources.json", json.dumps(list(block.sources)).encode())


def _npy(array: NDArray[Any]) -> bytes:
    made = io.BytesIO()
    np.save(made, array, allow_pickle=False)
    return made.getvalue()


def pack_positions(positions_BN: NDArray[np.integer], num_positions: int) -> NDArray[np.uint8]:
    """Positions [B, N] in any order → bitmasks [B, ceil(L/8)], big-endian bits, pad bits 0.

    Raises:
        ValueError: a position outside 0 … L-1, or the same one twice in a row.
    """
    positions_BN = positions_BN.astype(np.int64)
    if positions_BN.size and not 0 <= positions_BN.min() <= positions_BN.max() < num_positions:
        raise ValueError(
            f"positions run {positions_BN.min()} … {positions_BN.max()}, expected 0 … {num_positions - 1}"
        )
    kept_BL = np.zeros((len(positions_BN), num_positions), np.bool_)
    np.put_along_axis(kept_BL, positions_BN, True, axis=1)
    if (kept_BL.sum(axis=1) != positions_BN.shape[1]).any():
        raise ValueError("a position appears twice in a row, expected N different ones")
    return np.packbits(kept_BL, axis=1, bitorder="big")


def write_token_manifest(folder: Path, facts: TokenFacts, made_from: Mapping[str, str]) -> Manifest:
    """Write the token set's README and then its manifest, which describes each member too."""
    holds = Holds(facts.classes is not None, facts.text_length is not None, facts.sources)
    counts = ", ".join(f"{facts.counts[split]:,} {split}" for split in SPLITS)
    text = readme(counts, facts.grid, facts.num_codes, facts.num_kept, holds)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return write_manifest(folder, "token-shards", asdict(facts) | {"members": members_of(holds)}, made_from)
