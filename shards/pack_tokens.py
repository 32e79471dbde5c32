"""Codes and positions that were made elsewhere → a token data set that `train_stackformer` takes.

    python -m shards.pack_tokens CODES.npy POSITIONS.npy --grid 16 16 --num-codes 1024 --out mine \\
        --labels LABELS.npy --class-names NAMES.txt --keys KEYS.txt

CODES.npy      whole numbers [images, N], 0 … K-1: the code of each kept cell
POSITIONS.npy  whole numbers [images, N], 0 … L-1 in raster order (row * width + column), N different ones a row; they need
               not ascend: codes and positions are put in raster order together
LABELS.npy     whole numbers [images], 0 … classes-1
NAMES.txt      a class's name a line; without it classes are called 0000, 0001, …
KEYS.txt       an image's name a line, unique; without it images are called 0000000, 0000001, …
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.images import SPLITS
from shards.splits import hashed_unit
from shards.token_sets import taken, told, write_set
from shards.tokens import TokenBlock, TokenFacts, pack_positions
from workspace.errors import UserError
from workspace.manifest import sha256_file


def whole_numbers(path: Path, dimensions: int, below: int, what: str) -> NDArray[np.int64]:
    """An array of whole numbers from an npy file.

    Raises:
        UserError: no npy file, other dimensions, no whole numbers, or one outside 0 … below-1: its place is named.
    """
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is no npy file: {' '.join(str(error).split())[:160]}") from error
    if not isinstance(array, np.ndarray) or array.ndim != dimensions:
        raise UserError(
            f"{path} has shape {getattr(array, 'shape', None)}; expected {dimensions} dimensions of {what}"
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"{path} is {array.dtype}; expected whole numbers: convert it with .astype('int64')")
    wrong = np.argwhere((array < 0) | (array >= below))
    if len(wrong):
        place = tuple(int(number) for number in wrong[0])
        raise UserError(f"{path}: {what} {array[place]} at {list(place)}; expected 0 … {below - 1}")
    return array.astype(np.int64)


def lines_of(path: Path, count: int, what: str) -> tuple[str, ...]:
    """The lines of a text file; UserError where there are not `count`, or two are the same."""
    try:
        found = tuple(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if len(found) != count:
        raise UserError(f"{path} has {len(found):,} lines; expected {count:,}, {what}")
    if len(set(found)) < count:
        twice = next(line for number, line in enumerate(found) if line in found[:number])
        raise UserError(f"{path} names {twice} twice; {what} are unique")
    return found


def block_of(
    codes_BN: NDArray[np.int64], positions_BN: NDArray[np.int64], num_positions: int, keys: tuple[str, ...]
) -> TokenBlock:
    """All images as one block, in raster order.

    Raises:
        UserError: a position twice in a row.
    """
    order_BN = np.argsort(positions_BN, axis=1, kind="stable")
    sorted_BN = np.take_along_axis(positions_BN, order_BN, axis=1)
    twice = np.argwhere(np.diff(sorted_BN, axis=1) == 0)
    if len(twice):
        row, place = (int(number) for number in twice[0])
        raise UserError(
            f"positions: row {row} has position {sorted_BN[row, place]} twice; expected N different ones"
        )
    codes = np.take_along_axis(codes_BN, order_BN, axis=1).astype(np.uint16)
    return TokenBlock(keys, codes, pack_positions(sorted_BN, num_positions), None, None, None)


def labelled(
    block: TokenBlock, labels: Path | None, class_names: Path | None
) -> tuple[TokenBlock, tuple[str, ...] | None]:
    """The block with each image's class, and the classes' names; as it is, and None, where there are no labels.

    Raises:
        UserError: not one label an image, or names without labels.
    """
    if labels is None:
        if class_names is not None:
            raise UserError("--class-names wants --labels, the class of each image")
        return block, None
    cls = whole_numbers(labels, 1, 1 << 16, "labels")
    if len(cls) != len(block.keys):
        raise UserError(f"{labels} has {len(cls):,} labels; expected {len(block.keys):,}, one for each image")
    most = int(cls.max(initial=0)) + 1
    classes = tuple(f"{number:04d}" for number in range(most))
    if class_names is not None:
        lines = class_names.read_text(encoding="utf-8").splitlines()
        classes = lines_of(class_names, max(most, len(lines)), "a class's name each")
    return TokenBlock(block.keys, block.codes, block.mask, cls.astype(np.uint16), None, None), classes


def pack(
    codes: Path,
    positions: Path,
    out: Path,
    grid: tuple[int, int],
    num_codes: int,
    *,
    labels: Path | None = None,
    class_names: Path | None = None,
    keys: Path | None = None,
    val_fraction: float = 0.05,
    tokenizer: Path | None = None,
) -> None:
    """Check the arrays, split by hash of the keys, write the data set.

    Args:
        codes: CODES.npy.
        positions: POSITIONS.npy.
        out: the folder to write.
        grid: cells down and across.
        num_codes: K.
        labels: LABELS.npy.
        class_names: NAMES.txt.
        keys: KEYS.txt.
        val_fraction: share that is held out.
        tokenizer: what decodes the codes, any file; its SHA-256 stands in the manifest.

    Raises:
        UserError: what is wrong, with its place.
    """
    num_positions = grid[0] * grid[1]
    codes_BN = whole_numbers(codes, 2, num_codes, "codes")
    positions_BN = whole_numbers(positions, 2, num_positions, "positions")
    if codes_BN.shape != positions_BN.shape:
        raise UserError(
            f"{codes} has shape {codes_BN.shape} and {positions} {positions_BN.shape}; expected the same"
        )
    count, kept = codes_BN.shape
    names = (
        tuple(f"{number:07d}" for number in range(count))
        if keys is None
        else lines_of(keys, count, "an image's key each")
    )
    block = block_of(codes_BN, positions_BN, num_positions, names)
    block, classes = labelled(block, labels, class_names)
    held = np.array([hashed_unit(0, f"split/{name}") < val_fraction for name in names], np.bool_)
    splits = {"train": taken(block, np.flatnonzero(~held)), "val": taken(block, np.flatnonzero(held))}
    made_by = sha256_file(tokenizer) if tokenizer else hashlib.sha256(b"codes made elsewhere").hexdigest()
    facts = TokenFacts(
        grid=grid, num_codes=num_codes, num_kept=kept, classes=classes, text_length=None, text_vocab=None,
        counts=dict.fromkeys(SPLITS, 0), mask="none" if kept == num_positions else "adaptive", mqvae=made_by,
    )  # fmt: skip
    write_set(out, facts, splits, {"mqvae": made_by})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m shards.pack_tokens",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("codes", type=Path, help="CODES.npy")
    parser.add_argument("positions", type=Path, help="POSITIONS.npy")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--grid", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"), help="cells")
    parser.add_argument("--num-codes", type=int, required=True, help="K, codes in the codebook")
    parser.add_argument("--labels", type=Path, help="LABELS.npy")
    parser.add_argument("--class-names", type=Path, help="NAMES.txt")
    parser.add_argument("--keys", type=Path, help="KEYS.txt")
    parser.add_argument("--val-fraction", type=float, default=0.05, help="held out by hash of the key (0.05)")
    parser.add_argument(
        "--tokenizer", type=Path, help="what made the codes, any file: its SHA-256 is recorded"
    )
    asked = vars(parser.parse_args())
    asked["grid"] = tuple(asked["grid"])
    if min(asked["grid"]) < 1 or not 1 <= asked["num_codes"] <= 1 << 16 or not 0 < asked["val_fraction"] < 1:
        parser.error("expected --grid of 1 or more, --num-codes 1 … 65536, --val-fraction between 0 and 1")
    told(lambda: pack(**asked))


if __name__ == "__main__":
    main()
