"""The index of image shards: where the members of each sample lie. It is mapped, not read: opening it costs the same for any
number of samples, and all processes of a node share its pages.

    {train,val}.index.npy     one record per sample, in the order of the tars:
                              key         uint32   a sample's key is this number in seven digits or more
                              source_end  uint32   where the name of its source ends, in bytes from its tar's first name
                              and for each kind of member, called by its extension, three uint32: block (its offset in the tar
                              over 512; 0 where the sample has none), length in bytes, crc32
    {train,val}.tars.npy      one record per tar: samples; names_end, where its names end in sources.txt, in bytes; SHA-256 of
                              its records in the index, and of its names
    {train,val}.sources.txt   the name of each sample's source, each with a newline after it

Records, and not a file per column, since a sample is read whole: one page holds what reading it needs (decision 0047).
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workspace.errors import UserError
from workspace.exact.mapped import MappedArray, read_range

REMAKE = "run `dvc repro shard`"
BLOCK = 512
"""A tar's members begin at multiples of it."""
PLACE = np.dtype([("block", "<u4"), ("length", "<u4"), ("crc32", "<u4")])
TAR = np.dtype(
    [("samples", "<u8"), ("names_end", "<u8"), ("index_sha256", "u1", (32,)), ("names_sha256", "u1", (32,))]
)
MOST_SAMPLES = 1 << 32
"""Keys are uint32."""

Place = tuple[int, int, int]
"""Offset and length in bytes, CRC-32."""


@dataclass(frozen=True)
class IndexRow:
    """What the index says of a sample.

    Attributes:
        key: of the sample.
        tar: number of its tar in the split.
        members: extension → (offset, length, CRC-32), the first two in bytes.
        source: where it came from, relative to the source.
    """

    key: str
    tar: int
    members: Mapping[str, Place]
    source: str


def record_type(extensions: Sequence[str]) -> np.dtype[Any]:
    """The dtype of a record of samples with these members."""
    return np.dtype([("key", "<u4"), ("source_end", "<u4"), *((name, PLACE) for name in extensions)])


def index_files(split: str) -> tuple[str, str, str]:
    """Names of the index of a split, of its table of tars and of its names of sources."""
    return f"{split}.index.npy", f"{split}.tars.npy", f"{split}.sources.txt"


def key_of(number: int) -> str:
    """A sample's key."""
    return f"{number:07d}"


class IndexTable:
    """The index of a split, opened.

    Args:
        folder: of the artifact.
        split: train or val.
        shard_sizes: samples in each tar, as the manifest says.

    Raises:
        UserError: a file of the index is missing or damaged, or says other than the manifest.
    """

    def __init__(self, folder: Path, split: str, shard_sizes: Sequence[int]) -> None:
        index, tars, sources = index_files(split)
        try:
            self.records, table = MappedArray(folder / index), MappedArray(folder / tars)
        except UserError as error:
            raise UserError(f"{error}: {REMAKE}") from error
        self.tars, self.sources = table.array, folder / sources
        names = self.records.array.dtype.names or ()
        if self.records.array.dtype != record_type(names[2:]) or self.tars.dtype != TAR:
            raise UserError(f"{folder / index} holds records of another form: {REMAKE}")
        self.extensions = names[2:]
        self.starts = np.concatenate([[0], np.cumsum(np.asarray(shard_sizes, np.int64))])
        found, stated = len(self.records.array), int(self.starts[-1])
        if found != stated:
            raise UserError(
                f"{folder / index} has {found:,} records, its manifest says {stated:,} samples: {REMAKE}"
            )
        if not np.array_equal(self.tars["samples"], np.diff(self.starts).astype(np.uint64)):
            raise UserError(f"{folder / tars} puts samples into other tars than its manifest: {REMAKE}")
        self._known = bytearray(len(self.tars))

    def __len__(self) -> int:
        """Samples."""
        return len(self.records.array)

    def tar_of(self, index: int) -> int:
        """Number of the tar that holds a sample."""
        return int(np.searchsorted(self.starts, index, "right")) - 1

    def range_of(self, tar: int) -> range:
        """Numbers of the samples in a tar."""
        return range(int(self.starts[tar]), int(self.starts[tar + 1]))

    def at(self, index: int, tar: int) -> tuple[str, dict[str, Place]]:
        """Key and members of a sample of a tar.

        Raises:
            UserError: the tar's records are not those that were written.
        """
        if not self._known[tar]:
            self._check(tar)
        key, _, *places = self.records.array[index].item()
        named = zip(self.extensions, places, strict=True)
        return key_of(key), {
            name: (block * BLOCK, length, crc) for name, (block, length, crc) in named if block
        }

    def _check(self, tar: int) -> None:
        """Look at each byte of a tar's records, once in a process."""
        rows = self.range_of(tar)
        found = hashlib.sha256(self.records.bytes_of(rows.start, rows.stop)).digest()
        if found != self.tars["index_sha256"][tar].tobytes():
            raise UserError(f"{self.records.path} was changed in the records of tar {tar:06d}: {REMAKE}")
        self._known[tar] = 1

    def forget(self, tar: int) -> None:
        """Give back the memory in which a tar's records lie."""
        rows = self.range_of(tar)
        self.records.forget(rows.start, rows.stop)

    def rows_of(self, tar: int) -> Iterator[IndexRow]:
        """What the index says of each sample of a tar, in order; UserError where it was changed."""
        begin = int(self.tars["names_end"][tar - 1]) if tar else 0
        names = read_range(self.sources, begin, int(self.tars["names_end"][tar]))
        if hashlib.sha256(names).digest() != self.tars["names_sha256"][tar].tobytes():
            raise UserError(f"{self.sources} was changed in the names of tar {tar:06d}: {REMAKE}")
        start = 0
        for index in self.range_of(tar):
            key, members = self.at(index, tar)
            end = int(self.records.array["source_end"][index])
            yield IndexRow(key, tar, members, names[start:end].decode("utf-8", "surrogatepass"))
            start = end + 1
