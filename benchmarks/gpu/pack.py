"""Make one folder with all that the kit needs on a machine without network: code, image shards, weights, and the wheels of
packages that a machine with torch may lack. There `bash DIR/run.sh MINUTES OUT` is all that is typed (docs/gpu.md).
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.notes import commit
from benchmarks.gpu.stages import facts_of
from workspace.code import PACKAGES
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.progress import say

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
IMAGES, SIZES, WHEELS = ("faces", "flowers"), (64, 128), ("pydantic", "webdataset")
REQUIRED = ("numpy-", "pyyaml-")
"""Wheels that come with those and are not packed: they must be there already (docs/gpu.md)."""
KNOWN = (ROOT / "data", ROOT.parent / "shared" / "data")
"""Folder for data sets named without one; weights are next to them."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
FEWEST = 500
"""Images of a data set that are worth packing where not all fit."""
SOFT_QUALITY = 90
"""Quality of JPEGs made here; pictures that already have the size are copied."""
RUN = """#!/bin/bash
# bash run.sh MINUTES OUT [options of python -m benchmarks.gpu]: no network is needed, and nothing is installed.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
minutes=${1:?minutes, a number} out=${2:?folder of the results}
shift 2
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=${WORK:-$(mktemp -d)}
python=${PYTHON:-python3}
export PYTHONPATH="$here/code:$work/site${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1
"$python" - "$here/wheels" "$work/site" <<'END'
import importlib.util, pathlib, sys, zipfile
wheels, site = map(pathlib.Path, sys.argv[1:])
for wheel in sorted(wheels.glob("*.whl")):
    if importlib.util.find_spec(wheel.name.split("-")[0]) is None:
        zipfile.ZipFile(wheel).extractall(site)
END
mkdir -p "$work/run"
cd "$work"
exec "$python" -m benchmarks.gpu --minutes "$minutes" --out "$out" --work "$work/run" \\
  --shards "$here/shards" --weights "$here/weights" "$@"
"""


@dataclass(frozen=True)
class Images:
    """A folder of images, or of a folder for each class, by the name that the kit asks for."""

    name: str
    folder: Path

    @property
    def kind(self) -> str:
        """Its layout."""
        return "class_folder" if any(path.is_dir() for path in self.folder.iterdir()) else "folder"


def main() -> None:
    """The command line."""
    parser = parser_of("benchmarks.gpu.pack", __doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder to make; it must not exist")
    parser.add_argument(
        "--images",
        nargs="+",
        default=list(IMAGES),
        metavar="NAME[=FOLDER]",
        help="data sets (faces flowers, below data/)",
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="pixels per side (64 128)")
    parser.add_argument(
        "--weights", type=Path, help="folder with SqueezeNet's weights and LPIPS heads (weights/)"
    )
    parser.add_argument("--python", default="3.12", help="version of Python on the other machine (3.12)")
    parser.add_argument(
        "--wheels",
        nargs="*",
        default=list(WHEELS),
        help="packages that the other machine lacks; their dependencies come too (pydantic webdataset)",
    )
    parser.add_argument("--mib", type=int, default=55, help="largest size of the folder (55)")
    given = parser.parse_args()
    with mistakes_in_one_line():
        images = [images_of(text) for text in given.images]
        pack(
            given.out,
            images,
            given.sizes,
            weights_of(given.weights),
            given.python,
            given.wheels,
            given.mib * MIB,
        )


def images_of(text: str) -> Images:
    """NAME=FOLDER, or a NAME that is known.

    Raises:
        UserError: there is no such folder.
    """
    name, _, folder = text.partition("=")
    places = [Path(folder)] if folder else [place / name for place in KNOWN]
    found = next((place for place in places if place.is_dir()), None)
    if found is None or not re.fullmatch(r"\w+", name):
        raise UserError(f"--images {text}: no folder {' or '.join(map(str, places))}; expected NAME=FOLDER")
    return Images(name, found.resolve())


def weights_of(folder: Path | None) -> Path | None:
    """The folder of the weights: the one that is given, or one that is known.

    Raises:
        UserError: the one that is given is not there.
    """
    places = [folder] if folder is not None else [place.parent / "weights" for place in KNOWN]
    found = next((place for place in places if place.is_dir()), None)
    if folder is not None and found is None:
        raise UserError(f"--weights {folder}: no such folder")
    return found


def pack(
    out: Path,
    images: Sequence[Images],
    sizes: Sequence[int],
    weights: Path | None,
    python: str,
    wheels: Sequence[str],
    most: int,
) -> None:
    """Make the folder: the first size of every data set as far as it fits, then the next, where they share the room.

    Raises:
        UserError: it already exists, it does not fit, or a part of it cannot be made.
    """
    if out.exists():
        raise UserError(f"--out {out} is there already: remove it, or name another folder")
    out.mkdir(parents=True)
    copy_code(out / "code")
    (out / "weights").mkdir()
    for path in sorted(weights.glob("*.safetensors")) if weights is not None else ():
        if "squeeze" in path.name:
            shutil.copyfile(path, out / "weights" / path.name)
    fetch(wheels, python, out / "wheels")
    (out / "run.sh").write_text(RUN, encoding="utf-8")
    (out / "shards").mkdir()
    for size in sizes:
        for number, one in enumerate(images):
            sharing = 1 if size == sizes[0] else len(images) - number
            room = (most - size_of(out)) // sharing
            add_shards(one, size, out / "shards" / f"{one.name}-{size}", room)
    if size_of(out) > most:
        raise UserError(
            f"{out} has {size_of(out) / MIB:.1f} MiB, more than {most / MIB:.0f}: pack less, or raise --mib"
        )
    say(f"{out}: {size_of(out) / MIB:.1f} MiB; there: bash {out.name}/run.sh MINUTES OUT")


def copy_code(out: Path) -> None:
    """The code to run, and its commit."""
    ignored = shutil.ignore_patterns("__pycache__", "results", "*.md", "dvc.*", ".gitignore")
    for name in (*PACKAGES, "benchmarks", "presets"):
        shutil.copytree(ROOT / name, out / name, ignore=ignored)
    (out / "COMMIT").write_text(f"{commit()}\n", encoding="utf-8")


def fetch(packages: Sequence[str], python: str, out: Path) -> None:
    """Wheels of packages, in the versions that are pinned, and of what they need, for another Python.

    Raises:
        UserError: pip cannot get one.
    """
    out.mkdir()
    if not packages:
        return
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    wanted = [f"{name}=={pins[name]}" if name in pins else name for name in packages]
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary=:all:",
    ]
    command += ["--python-version", python, "--implementation", "cp", *platforms, "--dest", str(out), *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(
            f"pip download {' '.join(wanted)} for Python {python}: {done.stderr.strip().splitlines()[-1]}"
        )
    for wheel in out.glob("*.whl"):
        if wheel.name.lower().startswith(REQUIRED):
            wheel.unlink()


def add_shards(images: Images, size: int, out: Path, room: int) -> None:
    """Image shards of that size; of as many images as there is room for."""
    make_shards(images, images.folder, size, out)
    count, taken = sum(facts_of(out)["counts"].values()), size_of(out)
    if taken <= room:
        say(f"{out.name}: {count} images, {taken / MIB:.1f} MiB")
        return
    shutil.rmtree(out)
    fits = int(0.97 * count * room / taken)
    if fits < FEWEST:
        say(f"{out.name}: left out, its {taken / MIB:.1f} MiB do not fit into {max(0, room) / MIB:.1f}")
        return
    with tempfile.TemporaryDirectory() as folder:
        some(images, fits, Path(folder))
        make_shards(images, Path(folder), size, out)
    say(f"{out.name}: {fits} of {count} images, {size_of(out) / MIB:.1f} MiB: more do not fit")


def some(images: Images, count: int, folder: Path) -> None:
    """Links to evenly spread images."""
    paths = sorted(path for path in images.folder.rglob("*") if path.is_file())
    for number in range(count):
        path = paths[number * len(paths) // count]
        link = folder / path.relative_to(images.folder)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(path)


def make_shards(images: Images, source: Path, size: int, out: Path) -> None:
    """Run the stage.

    Raises:
        UserError: it failed.
    """
    preset = ROOT / "presets" / ("flowers.yaml" if images.kind == "class_folder" else "faces.yaml")
    sets = [
        f"shard.source={source}",
        f"shard.image_size={size}",
        f"mqvae.model.image_size={size}",
        f"shard.quality={SOFT_QUALITY}",
    ]
    words = [word for change in (*sets, "compute.workers=0") for word in ("--set", change)]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "stages.shard",
            "--params",
            str(preset),
            "--out",
            str(out.resolve()),
            *words,
        ]
        done = subprocess.run(
            command, cwd=folder, env=environment(), capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise UserError(f"{images.name}: {done.stderr.strip().splitlines()[-1]}")


def environment() -> dict[str, str]:
    """The environment of a program of this project that runs elsewhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def size_of(folder: Path) -> int:
    """Bytes of all files below it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
