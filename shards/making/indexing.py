"""Writing the index of image shards, tar by tar: see `shards.images.index` for what is in it."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.images.index import BLOCK, MOST_SAMPLES, TAR, index_files, key_of, record_type
from workspace.errors import UserError
from workspace.exact.manifest import atomic_path
from workspace.exact.mapped import ArrayWriter

Row = Mapping[str, Any]
"""key, members (extension → offset, length and CRC-32) and source of a sample."""


class IndexWriter:
    """Writes a split's index while its tars are made, or after; what it holds is one tar's part. A context manager.

    Args:
        folder: of the artifact.
        split: train or val.
        extensions: kinds of members that any sample has.
        samples: of the split.
        tars: of the split.
    """

    def __init__(self, folder: Path, split: str, extensions: Sequence[str], samples: int, tars: int) -> None:
        if samples > MOST_SAMPLES:
            raise UserError(
                f"the split {split} has {samples:,} images; an index holds at most {MOST_SAMPLES:,}"
            )
        self.paths = [folder / name for name in index_files(split)]
        self.extensions, self.dtype = extensions, record_type(extensions)
        self.samples, self.tars, self.names_end = samples, tars, 0

    def __enter__(self) -> "IndexWriter":
        """Begin three files beside those that they will be."""
        self._whole = [atomic_path(path) for path in self.paths]
        self._files = [whole.__enter__().open("wb") for whole in self._whole]
        self._records = ArrayWriter(self._files[0], self.dtype, self.samples)
        self._table = ArrayWriter(self._files[1], TAR, self.tars)
        return self

    def __exit__(self, *error: Any) -> None:
        """Rename them, all but after an error."""
        if error[0] is None:
            self._records.finish()
            self._table.finish()
        for file, whole in zip(self._files, self._whole, strict=True):
            file.close()
            whole.__exit__(*error)

    def add(self, records: NDArray[Any], names: bytes) -> None:
        """The next tar's records and the names of their sources."""
        tar = np.zeros(1, TAR)
        self._records.add(records)
        self._files[2].write(names)
        self.names_end += len(names)
        tar["samples"], tar["names_end"] = len(records), self.names_end
        tar["index_sha256"] = np.frombuffer(hashlib.sha256(records.tobytes()).digest(), np.uint8)
        tar["names_sha256"] = np.frombuffer(hashlib.sha256(names).digest(), np.uint8)
        self._table.add(tar)


def records_of(rows: Sequence[Row], extensions: Sequence[str]) -> tuple[NDArray[Any], bytes]:
    """A tar's rows as records, and the names of their sources."""
    names = [f"{row['source']}\n".encode("utf-8", "surrogatepass") for row in rows]
    ends = accumulate(len(name) for name in names)
    records = np.zeros(len(rows), record_type(extensions))
    for number, (row, end) in enumerate(zip(rows, ends, strict=True)):
        assert key_of(int(row["key"])) == row["key"], row["key"]
        assert all(offset % BLOCK == 0 for offset, _, _ in row["members"].values()), row
        places = ((row["members"].get(name, (0, 0, 0))) for name in extensions)
        packed = ((offset // BLOCK, length, crc) for offset, length, crc in places)
        records[number] = (int(row["key"]), end - 1, *packed)
    return records, b"".join(names)
