"""Arrays that lie in a file and are read in place: what is mapped is shared by all processes of a node and copied by none.

The file is numpy's own format, `np.load(path, mmap_mode="r")` reads it too. Pages that were looked at count as this process's
memory until the system wants them back, or until `forget` gives them back; they are read again where they are needed.
"""

import math
import mmap
import os
import tokenize
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from workspace.errors import UserError

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
NO_HEADER = (ValueError, TypeError, SyntaxError, EOFError, LookupError, tokenize.TokenError)
"""What numpy raises at bytes that begin no npy file."""
MOST_HEADER = (1 << 16) + 10
"""Bytes that a header may have."""


def read_header(data: bytes | memoryview, where: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape and dtype of an npy file in C order, and the byte at which its values begin.

    Raises:
        UserError: not an npy file, or one in Fortran order; `where` is put before it.
    """
    file = BytesIO(bytes(data[:MOST_HEADER]))
    try:
        shape, fortran, dtype = HEADERS[np.lib.format.read_magic(file)](file)
    except NO_HEADER as error:
        raise UserError(f"{where} is damaged: {' '.join(str(error).split())[:200]}") from error
    if fortran or min(shape, default=0) < 0:
        raise UserError(f"{where} is {dtype} {shape} in Fortran order; expected C order")
    return shape, dtype, file.tell()


class MappedArray:
    """An npy file of one dimension, mapped; goes to another process as its path.

    Args:
        path: the file.

    Raises:
        UserError: it is missing, not an npy file, or has another number of bytes than its shape asks for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is missing or empty: {error}") from error
        shape, dtype, self._start = read_header(memoryview(self._map), str(path))
        if (
            dtype.hasobject
            or len(shape) != 1
            or len(self._map) - self._start != math.prod(shape) * dtype.itemsize
        ):
            found = f"{len(self._map) - self._start:,} bytes of values"
            raise UserError(f"{path} has {found}, not those of {shape} numbers or records, {dtype}")
        self.array: NDArray[Any] = np.frombuffer(self._map, dtype, shape[0], self._start)

    def __reduce__(self) -> tuple[type["MappedArray"], tuple[Path]]:
        """Mapped again where it arrives: a pickled array would be a copy."""
        return MappedArray, (self.path,)

    def bytes_of(self, first: int, stop: int) -> memoryview:
        """The bytes of records first … stop - 1, not copied."""
        size = self.array.dtype.itemsize
        return memoryview(self._map)[self._start + first * size : self._start + stop * size]

    def forget(self, first: int, stop: int) -> None:
        """Give back the pages of records first … stop - 1, the ones they share with others too; all stay readable."""
        size, page = self.array.dtype.itemsize, mmap.PAGESIZE
        begin = (self._start + first * size) // page * page
        end = min(self._start + stop * size, len(self._map))
        if stop > first and hasattr(mmap, "MADV_DONTNEED"):  # Linux and macOS have it
            self._map.madvise(mmap.MADV_DONTNEED, begin, end - begin)


class ArrayWriter:
    """Writes an npy file of records part by part, however many there will be; a context manager.

    Args:
        file: where to; it must be seekable, and is left open.
        dtype: of a record.
        length: how many there will be.
    """

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any], length: int) -> None:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(file, header)
        self.file, self.dtype, self.length, self.written = file, dtype, length, 0

    def add(self, records: NDArray[Any]) -> None:
        """Append records."""
        assert records.dtype == self.dtype, (records.dtype, self.dtype)
        self.file.write(records.tobytes())
        self.written += len(records)

    def finish(self) -> None:
        """Check that as many came as were announced."""
        assert self.written == self.length, (self.written, self.length)


def read_range(path: Path, first: int, stop: int) -> bytes:
    """Bytes first … stop - 1 of a file; UserError where it is missing or shorter."""
    try:
        with path.open("rb") as file:
            data = os.pread(file.fileno(), stop - first, first)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) != stop - first:
        raise UserError(f"{path} ends before byte {stop:,}")
    return data
