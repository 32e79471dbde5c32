"""Pack codes and positions from another tokenizer into a token set that `train_stackformer` reads.

    python -m shards.pack_tokens CODES.npy POSITIONS.npy --grid 16 16 --num-codes 1024 --out mine \\
        --labels LABELS.npy --class-names NAMES.txt --keys KEYS.txt --sources SOURCES.txt --captions CAPTIONS.txt

CODES.npy      whole numbers [images, N], 0 … K-1: the code of each kept cell
POSITIONS.npy  whole numbers [images, N], 0 … L-1 in raster order (row * width + column), N different ones per row; they need
               not ascend, because codes and positions are sorted together
OFFSETS.npy    whole numbers [images + 1], from 0 upwards, where images have different numbers of codes: CODES and POSITIONS are
               one row then, and image i has entries OFFSETS[i] up to OFFSETS[i + 1] of both
LABELS.npy     whole numbers [images], 0 … classes-1
NAMES.txt      one class name per line; without it classes are called 0000, 0001, …
KEYS.txt       one image key per line, unique; without it images are called 0000000, 0000001, …
SOURCES.txt    one name per line, the image's name in your own tables: cat/001.jpg
CAPTIONS.txt   one caption per line, empty where an image has none; CAPTIONS.jsonl: one text or list of texts per line. They
               become BPE codes, learned on the training captions or taken from --text-tokenizer, another set's tokenizer
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.images import SPLITS
from shards.layouts.listed import clean_caption
from shards.text import TextTokenizer
from shards.token_making.packed import block_of, tokens_of, whole_numbers
from shards.token_sets import lines_of, taken, write_set
from shards.tokens import TEXT_TOKENIZER, TokenFacts
from shards.tokens.blocks import TokenBlock
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import parsed, sha256_file
from workspace.exact.seeds import hashed_unit
from workspace.progress import say

FEWEST_TEXT_CODES = 257
"""The padding code and the 256 bytes."""


def lines_each(path: Path, count: int, what: str) -> tuple[str, ...]:
    """The lines of a text file; UserError unless there are `count`."""
    found = tuple(lines_of(path))
    if len(found) != count:
        raise UserError(f"{path} has {len(found):,} lines; expected {count:,}, {what}")
    return found


def unique_lines(path: Path, count: int, what: str) -> tuple[str, ...]:
    """The lines of a text file; UserError unless there are `count`, all different."""
    found = lines_each(path, count, what)
    if len(set(found)) < count:
        twice, _ = Counter(found).most_common(1)[0]
        raise UserError(f"{path} has {twice} twice; expected unique lines, {what}")
    return found


def labelled(
    block: TokenBlock, labels: Path | None, class_names: Path | None
) -> tuple[TokenBlock, tuple[str, ...] | None]:
    """The block with each image's class, and the class names; unchanged and None if there are no labels.

    Raises:
        UserError: not one label per image, or names without labels.
    """
    if labels is None:
        if class_names is not None:
            raise UserError("--class-names needs --labels, the class of each image")
        return block, None
    cls = whole_numbers(labels, 1, 1 << 16, "labels")
    if len(cls) != len(block.keys):
        raise UserError(f"{labels} has {len(cls):,} labels; expected {len(block.keys):,}, one for each image")
    most = int(cls.max(initial=0)) + 1
    classes = tuple(f"{number:04d}" for number in range(most))
    if class_names is not None:
        classes = unique_lines(class_names, max(most, len(lines_of(class_names))), "one class name each")
    return replace(block, cls=cls.astype(np.uint16)), classes


@dataclass(frozen=True)
class Text:
    """How to encode captions.

    Attributes:
        vocab: most BPE codes to learn on the training captions; ignored with a tokenizer.
        length: codes per caption.
        tokenizer: another set's text_tokenizer.json, which makes the two sets mergeable; None learns a new one.
    """

    vocab: int = 8192
    length: int = 64
    tokenizer: Path | None = None


def captions_of(path: Path, count: int) -> list[tuple[str, ...]]:
    """Each image's captions: from a `.jsonl` a text or list of texts per line, else one caption per line ("" for none).

    Raises:
        UserError: not one line per image, not JSON, or not texts.
    """
    lines = lines_each(path, count, "one caption per image (an empty line if it has none)")
    if path.suffix.lower() not in (".jsonl", ".ndjson"):
        return [tuple(filter(None, [clean_caption(line)])) for line in lines]
    rows = [
        parsed(str | list[str] | None, line.strip() or "null", f"{path}, line {number}")  # type: ignore[arg-type]
        for number, line in enumerate(lines, start=1)
    ]
    return [
        tuple(filter(None, map(clean_caption, [row] if isinstance(row, str) else row or []))) for row in rows
    ]


def captioned(
    block: TokenBlock, path: Path, train: NDArray[np.bool_], text: Text
) -> tuple[TokenBlock, TextTokenizer]:
    """The block with each image's captions, and the tokenizer that encoded them.

    Args:
        block: all images as one block.
        path: CAPTIONS.txt or CAPTIONS.jsonl.
        train: bool [images], True for training images, from whose captions the tokenizer learns.
        text: how to encode.

    Raises:
        UserError: no captions for training images, more than 255 for an image, or a file that is not one of our tokenizers.
    """
    captions = captions_of(path, len(block.keys))
    learned = [
        caption for found, is_train in zip(captions, train, strict=True) if is_train for caption in found
    ]
    most = max(map(len, captions))
    if not learned or most > 255:
        wrong = (
            f"{most} captions for one image; expected at most 255"
            if learned
            else "no caption for any training image"
        )
        raise UserError(f"{path} has {wrong}")
    if text.tokenizer is not None and not text.tokenizer.is_file():
        raise UserError(f"{text.tokenizer} does not exist; expected the text_tokenizer.json of a token set")
    tokenizer = (
        TextTokenizer.load(text.tokenizer) if text.tokenizer else TextTokenizer.train(learned, text.vocab)
    )
    if cut := float((tokenizer.lengths(learned) > text.length).mean()):
        say(f"{cut:.1%} of the captions are cut to --text-length {text.length} codes")
    codes = tokenizer.encode_lists(captions, most, text.length)
    counts = np.array([len(found) for found in captions], np.uint8)
    return replace(block, text=codes, caption_count=counts), tokenizer


def pack(
    codes: Path,
    positions: Path,
    out: Path,
    grid: tuple[int, int],
    num_codes: int,
    *,
    offsets: Path | None = None,
    labels: Path | None = None,
    class_names: Path | None = None,
    keys: Path | None = None,
    sources: Path | None = None,
    captions: Path | None = None,
    text: Text = Text(),
    val_fraction: float = 0.05,
    tokenizer: Path | None = None,
) -> None:
    """Check the arrays, split by a hash of the keys, and write the token set.

    Args:
        codes: CODES.npy.
        positions: POSITIONS.npy.
        out: the folder to write.
        grid: cells down and across.
        num_codes: K.
        offsets: OFFSETS.npy, where images have different numbers of codes.
        labels: LABELS.npy.
        class_names: NAMES.txt.
        keys: KEYS.txt.
        sources: SOURCES.txt.
        captions: CAPTIONS.txt or CAPTIONS.jsonl.
        text: how captions become codes.
        val_fraction: share of images held out for validation.
        tokenizer: the model that made the codes, any file; its SHA-256 goes into the manifest.

    Raises:
        UserError: an array or a line is wrong; its place is named.
    """
    num_positions = grid[0] * grid[1]
    packed = tokens_of(codes, positions, offsets, num_codes, num_positions)
    lengths = np.diff(packed.offsets)
    count, fewest = len(lengths), int(lengths.min(initial=num_positions))
    kept = packed.each or int(lengths.max(initial=0))
    names = _names(keys, count)
    block = block_of(packed, num_positions, names)
    if sources is not None:
        block = replace(block, sources=lines_each(sources, count, "one image source name each"))
    block, classes = labelled(block, labels, class_names)
    held = np.array([hashed_unit(0, "split", name) < val_fraction for name in names], np.bool_)
    block, words = (block, None) if captions is None else captioned(block, captions, ~held, text)
    splits = {"train": taken(block, np.flatnonzero(~held)), "val": taken(block, np.flatnonzero(held))}
    made_by = sha256_file(tokenizer) if tokenizer else hashlib.sha256(b"codes made elsewhere").hexdigest()
    facts = TokenFacts(
        grid=grid, num_codes=num_codes, num_kept=kept, classes=classes, text_length=None if words is None else text.length,
        text_vocab=None if words is None else words.vocab, counts=dict.fromkeys(SPLITS, 0),
        mask="none" if fewest == num_positions else "adaptive", mqvae=made_by, sources=sources is not None,
        fewest_kept=fewest if packed.each is None else None,
    )  # fmt: skip
    _write(out, facts, splits, words)


def _names(keys: Path | None, count: int) -> tuple[str, ...]:
    """The images' keys: those of the file, or their numbers."""
    if keys is None:
        return tuple(f"{number:07d}" for number in range(count))
    return unique_lines(keys, count, "one image key each")


def _write(
    out: Path, facts: TokenFacts, splits: Mapping[str, TokenBlock], words: TextTokenizer | None
) -> None:
    """Write the set and its captions' tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        saved = None
        if words is not None:
            saved = Path(folder) / TEXT_TOKENIZER
            words.save(saved)
        write_set(out, facts, splits, {"mqvae": facts.mqvae}, saved)


def main() -> None:
    """The command line."""
    parser = parser_of("shards.pack_tokens", __doc__)
    parser.add_argument("codes", type=Path, help="CODES.npy")
    parser.add_argument("positions", type=Path, help="POSITIONS.npy")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--grid", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"), help="cells")
    parser.add_argument("--num-codes", type=int, required=True, help="K, codes in the codebook")
    parser.add_argument(
        "--offsets", type=Path, help="OFFSETS.npy, where images have different numbers of codes"
    )
    parser.add_argument("--labels", type=Path, help="LABELS.npy")
    parser.add_argument("--class-names", type=Path, help="NAMES.txt")
    parser.add_argument("--keys", type=Path, help="KEYS.txt")
    parser.add_argument("--sources", type=Path, help="SOURCES.txt")
    parser.add_argument("--captions", type=Path, help="CAPTIONS.txt or CAPTIONS.jsonl")
    parser.add_argument(
        "--text-vocab", type=int, default=Text.vocab, help="BPE codes, learned on training captions (8192)"
    )
    parser.add_argument("--text-length", type=int, default=Text.length, help="BPE codes per caption (64)")
    parser.add_argument(
        "--text-tokenizer",
        type=Path,
        help="text_tokenizer.json of another set, to merge with that; learned without it",
    )
    parser.add_argument("--val-fraction", type=float, default=0.05, help="held out by hash of the key (0.05)")
    parser.add_argument(
        "--tokenizer", type=Path, help="what made the codes, any file: its SHA-256 is recorded"
    )
    asked = vars(parser.parse_args())
    asked["grid"] = tuple(asked["grid"])
    if min(asked["grid"]) < 1 or not 1 <= asked["num_codes"] <= 1 << 16 or not 0 < asked["val_fraction"] < 1:
        parser.error("expected --grid of 1 or more, --num-codes 1 … 65536, --val-fraction between 0 and 1")
    asked["text"] = Text(*(asked.pop(f"text_{name}") for name in ("vocab", "length", "tokenizer")))
    if not FEWEST_TEXT_CODES <= asked["text"].vocab <= 1 << 16 or asked["text"].length < 1:
        parser.error(
            f"expected --text-vocab {FEWEST_TEXT_CODES} … 65536 (a pad and 256 bytes), --text-length of 1 or more"
        )
    with mistakes_in_one_line():
        pack(**asked)


if __name__ == "__main__":
    main()
