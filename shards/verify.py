"""Check that shards are intact and valid: `python -m shards.verify DIR`.

Reads every byte of an artifact and checks its checksums; for image-shards and token-shards also counts, keys, sizes, ranges,
positions and fingerprints. `--mqvae FOLDER` also checks that this MQ-VAE made the tokens.
Prints one line: exit status 0 if all is well, else 1 with what is wrong.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from shards.images import REMAKE, SPLITS, ImageFacts, ImageSample, ImageShards, read_shard
from shards.tokens import TokenShards
from shards.tokens.blocks import flat_positions
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import kind_of, read_manifest, verify_files
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
        index, keys = shards.index(split), list[str]()
        if (found := len(index)) != shards.count(split):
            raise UserError(
                f"{shards.folder}, split {split}: {found:,} images, its manifest says {shards.count(split):,}: {REMAKE}"
            )
        for path in track(shards.paths(split), split, "tars"):
            samples = list(read_shard(path if shards.home.at is None else shards.verified(path)))
            rows = index.indices_of(path)
            if len(samples) != len(rows):
                raise UserError(f"{path}: {len(samples):,} images, its index says {len(rows):,}: {REMAKE}")
            for row, sample in zip(rows, samples, strict=True):
                check_image(sample, shards.facts, str(path))
                if not same(sample, index.read(row)):
                    raise UserError(f"{path}: {sample.key} is not what {split}.index.npy points at: {REMAKE}")
                keys.append(sample.key)
        check_unique(keys, f"{shards.folder}, split {split}")
    return f"{shards.folder}: {_counts(shards.facts.counts.items())} images are intact"


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


def check_unique(keys: Iterable[str], where: str) -> None:
    """UserError if a key appears twice."""
    twice = next((key for key, count in Counter(keys).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"{where}: the key {twice} appears twice: {REMAKE}")


def verify_tokens(shards: TokenShards) -> str:
    """Load and check every block; positions must ascend strictly within the grid.

    Raises:
        UserError: the first thing that is wrong.
    """
    verify_files(shards.folder, shards.manifest)
    facts = shards.facts
    check_fingerprints(shards)
    for split in SPLITS:
        loaded = shards.load(split)
        positions = flat_positions(loaded.kept, facts.num_positions)
        ends = np.cumsum(loaded.lengths)[:-1] - 1  # from one image to the next they need not ascend
        if (np.delete(np.diff(positions), ends) <= 0).any():
            raise UserError(
                f"{shards.folder}, split {split}: positions do not ascend: run `dvc repro tokenize`"
            )
    stored = f"N = {facts.kept_words} of L = {facts.num_positions} cells, K = {facts.num_codes}"
    return (
        f"{shards.folder}: {_counts(facts.counts.items())} images are intact, {stored}, "
        f"fingerprint {shards.manifest.fingerprint[:16]}, codes of MQ-VAE {facts.mqvae[:16]}"
    )


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
    parser = argparse.ArgumentParser(prog="python -m shards.verify", description=__doc__)
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
