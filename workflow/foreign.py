"""What a stage reads in place of its artifacts: images, or statistics, that others made."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from shards import pack_samples
from shards.making import pictures
from shards.npz import COVARIANCE, IMAGES, MEAN, arrays_in, export
from shards.pack_samples import pack
from workflow.stage import Options
from workspace.errors import UserError
from workspace.exact.manifest import NAME, kind_of, read_manifest, sha256_file
from workspace.fingerprints import input_fingerprint, is_published
from workspace.progress import say

HELP = {
    "images": "score these instead of samples: a folder of images, a tar or zip of them, or ADM's .npz; needs --out, where the "
    "scores are then in OUT/metrics",
    "export_npz": "also write the scored images to this file, in the layout of ADM's evaluator",
    "real": "against these instead of the reference's own: the same kinds, or an .npz of statistics (mu, sigma)",
}
PACKED = Path(".runs/foreign")
"""Foreign images as samples: packed once, for as long as they do not change."""


def given_to_evaluate(asked: Mapping[str, Sequence[str]], inputs: dict[str, Path]) -> dict[str, Path]:
    """The inputs of `evaluate` where `--images` or `--real` name something else.

    Raises:
        UserError: an option was given twice, names nothing, or what it names does not fit the reference.
    """
    found = dict(inputs)
    if asked["images"]:
        found["samples"] = as_samples(_one("images", asked["images"]), inputs["reference"])
    if asked["export_npz"]:
        file = _one("export-npz", asked["export_npz"])
        say(f"{export(found['samples'], 'val', file):,} images → {file}")
    if asked["real"]:
        real = _one("real", asked["real"])
        arrays = arrays_in(real) if real.suffix.lower() == ".npz" else {}
        if {MEAN, COVARIANCE} <= arrays.keys():
            found["statistics"] = real
        if not arrays or IMAGES in arrays or "statistics" not in found:
            found["real"] = as_samples(real, inputs["reference"])
    return found


def _one(option: str, paths: Sequence[str]) -> Path:
    if len(paths) > 1:
        raise UserError(f"--{option} is given {len(paths)} times; expected once")
    return Path(paths[0])


def as_samples(images: Path, reference: Path) -> Path:
    """A folder of samples: the images themselves where they are one, else packed below `PACKED`.

    Args:
        images: an artifact of samples, a folder or archive of pictures, or an .npz.
        reference: the artifact whose image size and classes they are held against.

    Raises:
        UserError: they cannot be packed.
    """
    if (images / NAME).is_file() and is_published(images):
        if kind_of(images) == "samples":
            return images
        raise UserError(
            f"{images} is an artifact of {kind_of(images)}, not of samples: for the images of shards make an .npz of one split, "
            "`python -m shards.npz artifacts/shards real.npz --split val`"
        )
    facts = read_manifest(reference, "reference").facts
    size, classes = facts["image_size"], facts["classes"]
    if not images.exists():
        pack(images, PACKED / "nothing", size, classes)
    # other code may give other pixels
    code = [sha256_file(Path(module.__file__ or "")) for module in (pack_samples, pictures)]
    name = hashlib.sha256(f"{images.absolute()} {input_fingerprint(images)} {size} {classes} {code}".encode())
    folder = PACKED / name.hexdigest()[:16]
    if not (folder / NAME).is_file():
        pack(images, folder, size, classes)
    return folder


def asked_changes(asked: Mapping[str, Sequence[str]]) -> list[str]:
    """All images that `--images` names are scored."""
    return ["evaluate.num_images=null"] if asked["images"] else []


OPTIONS = Options(HELP, asked_changes, given_to_evaluate, metrics=True)
