"""Row 10: feature extraction from a folder of PNG, ours against clean-fid's, on the same network.

Both read and decode the files, resize as clean-fid does and run Inception v3 (random weights, TorchScript, fp32) in
batches of 16.
"""

import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.clean_fid import load_clean_fid, write_random_inception
from benchmarks.harness import Claim, Floor, Result, alternate, at_least, main, measured, seconds
from evaluation.features.inception import SIDE, WEIGHTS, InceptionExtractor, load_inception
from workspace.exact.manifest import sha256_file

IMAGES, PIXELS, BATCH = 32, 256, 16
CPU = torch.device("cpu")
Features = NDArray[np.float32]


def write_pictures(folder: Path) -> list[Path]:
    """Noise over a coarse pattern, a PNG each."""
    random = np.random.default_rng(0)
    found = []
    for number in range(IMAGES):
        coarse = random.integers(0, 200, (8, 8, 3)).repeat(PIXELS // 8, axis=0).repeat(PIXELS // 8, axis=1)
        image = (coarse + random.integers(0, 50, coarse.shape)).astype(np.uint8)
        found.append(folder / f"{number:04d}.png")
        Image.fromarray(image).save(found[-1])
    return found


def ours(extractor: InceptionExtractor, paths: list[Path]) -> Features:
    """Features of the files, batches in memory."""
    parts = []
    for first in range(0, len(paths), BATCH):
        images = [np.asarray(Image.open(path).convert("RGB")) for path in paths[first : first + BATCH]]
        parts.append(extractor(np.stack(images)).features)
    return np.concatenate(parts)


def rate(work: Callable[[], Features]) -> float:
    """Images per second."""
    return IMAGES / seconds(work)


def measure() -> Iterable[Result]:
    """Both on the same folder; the features are compared too."""
    clean_fid = load_clean_fid()
    from cleanfid.inception_torchscript import InceptionV3W

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        paths = write_pictures(folder / "images")
        sha256 = sha256_file(write_random_inception(folder / WEIGHTS))
        extractor = load_inception(folder, sha256, CPU)
        theirs = partial(
            clean_fid.get_folder_features,
            str(folder / "images"),
            model=InceptionV3W(str(folder), download=False).eval(),
            num_workers=0,
            batch_size=BATCH,
            device=CPU,
            verbose=False,
        )
        apart = float(np.abs(ours(extractor, paths) - theirs()).max() / np.abs(theirs()).max())
        assert apart < 1e-3, f"the features differ by {apart} of the largest"
        ready = torch.rand(BATCH, 3, SIDE, SIDE).to(memory_format=torch.channels_last) * 255
        floor = BATCH / min(seconds(partial(_network, extractor, ready)) for _ in range(3))
        pairs = alternate(lambda: rate(partial(ours, extractor, paths)), lambda: rate(theirs), pairs=3)
    claim = Claim(
        row=10,
        name="features",
        title="Inception features of a folder of PNG, CPU",
        unit="images/s",
        better="higher",
        against="clean-fid on the same folder and network, no worker processes",
        bar=at_least(1.4),
    )
    yield measured(
        claim,
        pairs,
        {"images": IMAGES, "pixels": PIXELS, "batch": BATCH},
        note=f"features differ by {apart:.1e} of the largest",
        floor=Floor(floor, "our network alone on a ready batch"),
    )


@torch.inference_mode()
def _network(extractor: InceptionExtractor, batch: torch.Tensor) -> None:
    extractor.network(batch)


if __name__ == "__main__":
    main(measure)
