"""Row 9: sharding 1,000 photographs (500×375) against img2dataset's resizer on the same bytes, with 1 and 2 processes.

Ours is the whole of it: reading, cropping, encoding (4:4:4), tars, the index; of the reference the resizer alone is timed,
its bytes are dropped. Quality is equal where SSIM between the two is at least 0.99. Where the photographs have the size
already, ours passes their bytes through. Needs data/flowers, of which the photographs are made, and `pip install -e '.[bench]'`.
"""

import io
import os
import statistics
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmarks.harness import (
    ROOT,
    Bar,
    Claim,
    Floor,
    Pairs,
    Result,
    alternate,
    at_least,
    main,
    measured,
    not_measured,
    seconds,
)
from shards.making.gathering import write_shards
from shards.making.pictures import Encoding, encode_image
from shards.making.plans import ShardPlan, plan_shards
from shards.making.sources import list_source
from workspace.exact.tar import START

FLOWERS = ROOT / "data" / "flowers"
IMAGES, SHARD, PAIRS, COMPARED = 1000, 100, 3, 100
BARS = {256: 1.0, 64: 1.7}
RESIZER = "img2dataset's resizer"


def measure() -> Iterable[Result]:
    """Both sizes with one process and two, quality, two processes against one, photographs that have the size."""
    missing = [] if FLOWERS.is_dir() else ["data/flowers"]
    missing += [name for name in ("cv2", "albumentations") if find_spec(name) is None]
    if missing:
        for claim in (claim_of("256", BARS[256]), claim_of("64", BARS[64]), claim_of("same_size", 8.0)):
            yield not_measured(claim, f"needs {' and '.join(missing)}", {"images": IMAGES})
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large, small = folder / "large", folder / "small"
        make_photographs(large, (500, 375))
        make_photographs(small, (256, 256))
        for size, bar in BARS.items():
            one = against_resizer(large, size, 1, claim_of(str(size), bar), folder)
            yield one
            yield against_resizer(large, size, 2, claim_of(f"{size}_two", bar, ", 2 processes"), folder)
            yield quality(large, size)
        yield two_against_one(large, folder)
        yield passed_through(small, folder)


def claim_of(name: str, least: float, more: str = "") -> Claim:
    """Against the resizer."""
    size = "256" if name == "same_size" else name.removesuffix("_two")
    return Claim(
        row=9,
        name=f"shard_{name}",
        title=f"shard {IMAGES:,} photographs to {size} px{more}",
        unit="images/s",
        better="higher",
        against=RESIZER,
        bar=at_least(least),
    )


def make_photographs(folder: Path, size: tuple[int, int]) -> None:
    """Photographs of that size, as cameras and the web store them: JPEG, quality 92, 4:2:0."""
    folder.mkdir()
    for number, path in enumerate(sorted(FLOWERS.rglob("*.jpg"))[:IMAGES]):
        image = ImageOps.fit(Image.open(path).convert("RGB"), size, Image.Resampling.BICUBIC)
        image.info.clear()  # a quarter of the sources have a profile or a comment, which alone would make a copy
        image.save(folder / f"{number:05d}.jpg", quality=92)


def plans_of(photographs: Path) -> list[ShardPlan]:
    """Ten tars and a little one."""
    return plan_shards(list_source("folder", str(photographs)).images, 0.02, 0, SHARD)


def ours(photographs: Path, size: int, processes: int, folder: Path) -> Callable[[], float]:
    """Images a second of the whole of sharding."""
    plans, encoding = plans_of(photographs), Encoding(size, "jpg", 95)

    def run() -> float:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            work = Path(name)
            return IMAGES / seconds(
                lambda: write_shards(plans, encoding, work, 0.0, processes, work / "progress.json")
            )

    return run


def resize_all(paths: Sequence[Path], size: int) -> int:
    """Bytes that the resizer made of the files."""
    from benchmarks.literal_resizer import resize

    return sum(len(resize(path.read_bytes(), size)) for path in paths)


def resizer(photographs: Path, size: int, processes: int) -> Callable[[], float]:
    """Images a second of the resizer alone."""
    paths = sorted(photographs.iterdir())
    parts = [paths[first : first + SHARD] for first in range(0, len(paths), SHARD)]

    def work() -> None:
        if processes == 1:
            resize_all(paths, size)
            return
        with ProcessPoolExecutor(processes, mp_context=get_context(START)) as pool:
            list(pool.map(resize_all, parts, [size] * len(parts)))

    return lambda: IMAGES / seconds(work)


def against_resizer(photographs: Path, size: int, processes: int, claim: Claim, folder: Path) -> Result:
    """Images per second."""
    pairs = alternate(
        ours(photographs, size, processes, folder), resizer(photographs, size, processes), PAIRS
    )
    return measured(claim, pairs, {"images": IMAGES, "size": size, "processes": processes})


def passed_through(photographs: Path, folder: Path) -> Result:
    """Images per second where the source has the size; the floor moves and checksums the bytes, and does nothing else."""
    claim = claim_of("same_size", 8.0, ", which have the size already")
    pairs = alternate(ours(photographs, 256, 1, folder), resizer(photographs, 256, 1), PAIRS)
    paths = sorted(photographs.iterdir())
    floor = Floor(
        IMAGES / min(seconds(lambda: copied(paths, folder / "copied")) for _ in range(PAIRS)),
        "open, read, CRC-32 and write to one file, nothing else",
    )
    note = (
        "the bytes are copied; each picture's tables and markers are checked (shards/making/whole_jpeg.py), which refuses what "
        "decoding does, and what is unusual is decoded at 1/8, which gave 2.44×"
    )
    return measured(claim, pairs, {"images": IMAGES, "size": 256, "processes": 1}, note, floor)


def copied(paths: Sequence[Path], target: Path) -> list[int]:
    """The work that no way of storing files unchanged can avoid."""
    checksums = []
    with target.open("wb", buffering=1 << 17) as file:
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY)
            data = os.read(descriptor, os.fstat(descriptor).st_size)
            os.close(descriptor)
            checksums.append(zlib.crc32(data))
            file.write(data)
    return checksums


def two_against_one(photographs: Path, folder: Path) -> Result:
    """Images a second of two processes against one."""
    claim = Claim(
        row=9,
        name="shard_processes",
        title="shard to 256 px with 2 processes",
        unit="images/s",
        better="higher",
        against="1 process",
        bar=at_least(1.9),
    )
    two, one = ours(photographs, 256, 2, folder), ours(photographs, 256, 1, folder)
    return measured(claim, alternate(two, one, 5), {"images": IMAGES, "images per shard": SHARD})


def quality(photographs: Path, size: int) -> Result:
    """Mean SSIM between ours and the resizer's, of grey values, 11×11 Gaussian window (σ 1.5)."""
    claim = Claim(
        row=9,
        name=f"shard_{size}_ssim",
        title=f"SSIM to the resizer's pictures at {size} px",
        unit="",
        better="higher",
        against="",
        bar=Bar(0.99, "at least", "ours"),
    )
    found = tuple(similarities(sorted(photographs.iterdir())[:COMPARED], size))
    note = f"mean of {COMPARED} photographs; the lowest is {min(found):.4f}"
    return measured(claim, Pairs((statistics.mean(found),), ()), {"size": size}, note)


def similarities(paths: Sequence[Path], size: int) -> Iterator[float]:
    """SSIM of each."""
    from benchmarks.literal_resizer import resize

    for path in paths:
        data = path.read_bytes()
        yield ssim(grey(encode_image(data, Encoding(size, "jpg", 95))), grey(resize(data, size)))


def grey(data: bytes) -> NDArray[np.float64]:
    """Luma, [H, W], 0 … 255."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"), np.float64)


def ssim(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Wang et al. 2004, Eq. 13, mean over the image."""
    import cv2

    def blurred(image: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(image, (11, 11), 1.5))

    mean_a, mean_b = blurred(a), blurred(b)
    var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    both = blurred(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    return float((above / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


if __name__ == "__main__":
    main(measure)
