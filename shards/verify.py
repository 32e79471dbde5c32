"""Check that shards are intact and valid: `python -m shards.verify DIR`.

Reads every byte of an artifact and checks its checksums; for image-shards and token-shards also counts, keys, sizes, ranges,
positions and fingerprints. `--mqvae FOLDER` also checks that this MQ-VAE made the tokens.
Prints one line: exit status 0 if all is well, else 1 with what is wrong.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from shards.images import REMAKE, SPLITS, ImageFacts, ImageIndex, ImageSample, ImageShards, read_shard
from shards.tokens import TokenFacts, TokenShards
from shards.tokens.blocks import TokenBlock, flat_positions, read_token_shard
from shards.tokens.reading import check_count, check_tar_count
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import kind_of, read_manifest, verify_files
from workspace.exact.tar import read_samples
from workspace.progress import say, track

FINGERPRINT = re.compile(r"[0-9a-f]{64}")
"""The form of a SHA-256."""


def verify(folder: Path) -> str:
    """Check an artifact; returns one line about the checks.

    Raises:
        UserError: something is wrong; the error names it and its place.
    """
    kind = kind_of(folder)
    if kind == "image-shards":
        return verify_images(ImageShards.open(folder))
    if kind == "token-shards":
        return verify_tokens(TokenShards.open(folder))
    manifest = read_manifest(folder, kind)
    verify_files(folder, manifest)
    return f"{folder}: {len(manifest.files):,} files of kind {kind} are intact"


def verify_images(shards: ImageShards) -> str:
    """Decode every sample sequentially and by offset, and check it against the facts.

    Raises:
        UserError: the first thing that is wrong.
    """
    verify_files(shards.folder, shards.manifest)
    for split in SPLITS:
        with tempfile.TemporaryFile() as file:
            _verify_split(shards, split, KeysSeen(file))
    return f"{shards.folder}: {_counts(shards.facts.counts.items())} images are intact"


def _verify_split(shards: ImageShards, split: str, keys: "KeysSeen") -> None:
    index = shards.index(split)
    if (found := len(index)) != shards.count(split):
        raise UserError(
            f"{shards.folder}, split {split}: {found:,} images, its manifest says {shards.count(split):,}: {REMAKE}"
        )
    for path in track(shards.paths(split), split, "tars"):
        tar = path if shards.home.at is None else shards.verified(path)
        for sample in _verified_samples(tar, index.indices_of(path), shards.facts, index):
            keys.add([sample.key])
    again = (key for tar in map(shards.tar, shards.paths(split)) for key, _ in read_samples(tar))
    keys.check(again, f"{shards.folder}, split {split}", REMAKE)


def _verified_samples(tar: Path, rows: range, facts: ImageFacts, index: ImageIndex) -> Iterator[ImageSample]:
    """The samples of a tar, each compared with its row of the index; UserError for the first that is wrong."""
    found = 0
    for found, sample in enumerate(read_shard(tar), start=1):
        if found <= len(rows):
            check_image(sample, facts, str(tar))
            if not same(sample, index.read(rows[found - 1])):
                raise UserError(
                    f"{tar}: {sample.key} is not what {index.split}.index.npy points at: {REMAKE}"
                )
            yield sample
    if found != len(rows):
        raise UserError(f"{tar}: {found:,} images, its index says {len(rows):,}: {REMAKE}")


def check_image(sample: ImageSample, facts: ImageFacts, path: str) -> None:
    """Check one sample against the set's facts.

    Raises:
        UserError: wrong size, a class without a name, or an attribute or mask that does not fit.
    """
    side, where = facts.image_size, f"{path}: {sample.key}"
    if sample.image.shape != (side, side, 3):
        raise UserError(f"{where} has shape {sample.image.shape}, expected {(side, side, 3)}: {REMAKE}")
    names = facts.classes
    if (sample.cls is None) != (names is None):
        raise UserError(f"{where} has class {sample.cls}, and the manifest's classes are {names}: {REMAKE}")
    if names is not None and sample.cls is not None and not 0 <= sample.cls < len(names):
        raise UserError(f"{where} has class {sample.cls}, expected 0 … {len(names) - 1}: {REMAKE}")
    if facts.masks and (sample.mask is None or sample.mask.shape != (side, side)):
        raise UserError(f"{where} has no mask of {side} × {side}: {REMAKE}")
    if sample.captions and not facts.captions:
        raise UserError(f"{where} has captions, but its manifest says there are none: {REMAKE}")
    for name, value in (sample.attributes or {}).items():
        if value not in (facts.attributes or {}).get(name, ()):
            raise UserError(
                f"{where} has {name} {value}, which is not one of the manifest's values: {REMAKE}"
            )


def same(one: ImageSample, other: ImageSample) -> bool:
    """Whether two samples are equal in all fields."""
    rest = ("key", "cls", "captions", "attributes")
    return (
        all(getattr(one, name) == getattr(other, name) for name in rest)
        and np.array_equal(one.image, other.image)
        and (one.mask is None) == (other.mask is None)
        and (one.mask is None or other.mask is None or np.array_equal(one.mask, other.mask))
    )


class KeysSeen:
    """Finds a key that appears twice among any number: eight bytes of each are in a file, none in memory.

    Args:
        file: an empty one, to write and read.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.count = file, 0

    def add(self, keys: Sequence[str]) -> None:
        """The next keys."""
        self._file.write(b"".join(_digest(key) for key in keys))
        self.count += len(keys)

    def check(self, again: Iterable[str], where: str, remake: str) -> None:
        """Check that all were different.

        Args:
            again: the same keys, read only if two have the same eight bytes.
            where: the place, for the error.
            remake: what makes the set again.

        Raises:
            UserError: a key appears twice.
        """
        self._file.flush()
        if not self.count:
            return
        found = np.memmap(self._file, np.uint64, "r+", shape=(self.count,))
        found.sort()
        parts = (found[first : first + MOST_AT_ONCE + 1] for first in range(0, self.count, MOST_AT_ONCE))
        equal = np.concatenate([np.array(part[1:][part[1:] == part[:-1]]) for part in parts])
        alike, seen = {value.tobytes() for value in equal}, set[str]()
        for key in again if alike else ():
            if _digest(key) in alike:
                if key in seen:
                    raise UserError(f"{where}: the key {key} appears twice: {remake}")
                seen.add(key)


MOST_AT_ONCE = 1 << 20
"""Numbers that are compared at once."""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8]


def verify_tokens(shards: TokenShards) -> str:
    """Check every block, one after the other; positions must ascend strictly within the grid.

    Raises:
        UserError: the first thing that is wrong.
    """
    verify_files(shards.folder, shards.manifest)
    facts = shards.facts
    check_fingerprints(shards)
    for split in SPLITS:
        with tempfile.TemporaryFile() as file:
            _verify_token_split(shards, split, KeysSeen(file))
    stored = f"N = {facts.kept_words} of L = {facts.num_positions} cells, K = {facts.num_codes}"
    return (
        f"{shards.folder}: {_counts(facts.counts.items())} images are intact, {stored}, "
        f"fingerprint {shards.manifest.fingerprint[:16]}, codes of MQ-VAE {facts.mqvae[:16]}"
    )


def _verify_token_split(shards: TokenShards, split: str, keys: KeysSeen) -> None:
    facts, where = shards.facts, f"{shards.folder}, split {split}"
    for path in track(shards.paths(split), split, "tars"):
        before = keys.count
        for block in shards.blocks(path):
            _check_positions(block, facts, where)
            keys.add(block.keys)
        check_tar_count(path, keys.count - before, facts)
    again = (key for path in shards.paths(split) for key in keys_of(path))
    keys.check(again, where, "run `dvc repro tokenize`")
    check_count(keys.count, facts, split, where)


def _check_positions(block: TokenBlock, facts: TokenFacts, where: str) -> None:
    """UserError if the positions of an image do not ascend."""
    positions = flat_positions(block.kept, facts.num_positions)
    ends = np.cumsum(block.lengths)[:-1] - 1  # from one image to the next they need not ascend
    if (np.delete(np.diff(positions), ends) <= 0).any():
        raise UserError(f"{where}: positions do not ascend: run `dvc repro tokenize`")


def keys_of(path: Path) -> Iterator[str]:
    """The keys of a tar of tokens."""
    for block in read_token_shard(path):
        yield from block.keys


def check_fingerprints(shards: TokenShards) -> None:
    """Check that the facts name an MQ-VAE by SHA-256, and that the tokens were made from it.

    Raises:
        UserError: the two differ.
    """
    named, made_from = shards.facts.mqvae, shards.manifest.made_from.get("mqvae")
    if FINGERPRINT.fullmatch(named) is None or named != made_from:
        raise UserError(
            f"{shards.folder}: its facts name MQ-VAE {named}, but it was made from {made_from}; "
            "expected one SHA-256: run `dvc repro tokenize`"
        )


def check_decoder(folder: Path, mqvae: Path) -> None:
    """Check that this MQ-VAE made these tokens.

    Raises:
        UserError: another one did, or one of the folders is not such an artifact.
    """
    expected, found = TokenShards.open(folder).facts.mqvae, read_manifest(mqvae, "mqvae").fingerprint
    if expected != found:
        raise UserError(
            f"{folder} was made by MQ-VAE {expected[:16]}, {mqvae} is {found[:16]}: "
            "run `dvc repro tokenize`, or use the first one"
        )


def _counts(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in counts)


def main() -> None:
    """The command line."""
    parser = parser_of("shards.verify", __doc__)
    parser.add_argument("folder", type=Path, help="an artifact: artifacts/shards, artifacts/tokens")
    parser.add_argument("--mqvae", type=Path, help="for tokens: check that they were made by this MQ-VAE")
    given = parser.parse_args()
    with mistakes_in_one_line():
        told = verify(given.folder)
        if given.mqvae is not None:
            check_decoder(given.folder, given.mqvae)
            told += f", which is {given.mqvae}"
        say(told)


if __name__ == "__main__":
    main()
