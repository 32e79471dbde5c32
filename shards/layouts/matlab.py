"""Oxford Flowers' labels and splits: MATLAB files with numbers in the order of the images' names."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from shards.layouts.beside import Beside
from shards.layouts.flat_labels import load_mat
from shards.layouts.reading import Reading
from shards.layouts.walking import Files
from workspace.errors import UserError

LABELS_FILE = "imagelabels.mat"
LABELS = ("labels", "label")
SPLITS = {"trnid": "train", "valid": "val", "tstid": "test"}
"""Variables of setid.mat: numbers of images, from 1."""


def read_matlab(files: Files, names: Sequence[str], reading: Reading) -> Beside | None:
    """Labels and splits from the .mat files asked for, or from imagelabels.mat and setid.mat; None without them.

    Raises:
        UserError: not a MATLAB file, or not one number per image.
    """
    asked = reading.tables or ()
    found = [name for name in files.others if name.lower().endswith(".mat")]
    if reading.tables is not None:
        found = [name for name in found if name in asked]
    elif not any(PurePosixPath(name).name == LABELS_FILE for name in found):
        found = []
    if not found:
        return None
    beside, ordered = Beside(), sorted(names)
    for name in found:
        for variable, value in load_mat(files.locate(name).read(), name).items():
            if variable in LABELS:
                numbers = _numbers(value, name)
                _check_count(len(numbers), len(ordered), name)
                beside.labels.update(zip(ordered, map(str, numbers), strict=True))
            elif variable in SPLITS:
                _take_split(_numbers(value, name), SPLITS[variable], ordered, name, beside)
            else:
                continue
            if name not in beside.read:
                beside.read.append(name)
    beside.notes.extend(f"{name}: numbers in the order of the images' names" for name in beside.read)
    return beside if beside.read else None


def _take_split(numbers: list[int], split: str, ordered: Sequence[str], name: str, beside: Beside) -> None:
    if numbers and not 1 <= min(numbers) <= max(numbers) <= len(ordered):
        raise UserError(f"{name} numbers images up to {max(numbers):,}, and there are {len(ordered):,}")
    beside.splits.update((ordered[number - 1], split) for number in numbers)


def _check_count(numbers: int, images: int, name: str) -> None:
    if numbers != images:
        raise UserError(
            f"{name} has {numbers:,} labels, in the order of the images' names, and there are {images:,} images: "
            "some are missing, or do not belong to the set (shard.roles: {PATH: skip} leaves some out)"
        )


def _numbers(value: Any, name: str) -> list[int]:
    try:
        return [int(number) for number in np.atleast_1d(value).reshape(-1)]
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} holds no numbers") from error
