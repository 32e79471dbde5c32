"""Row 8: tokenising, from JPEG shards to token shards, against the encoder alone on tensors that are ready.

The model is presets/faces.yaml's (64 px, f8, no attention): the quicker the encoder, the more decoding shows. One torch
thread; the images are decoded in another thread meanwhile. Photographs from data/faces, else drawn ones.
"""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarks.harness import ROOT, Claim, Result, alternate, at_least, main, measured, seconds
from cluster.shard_map import ShardJob
from inference.encode import encoder_on
from models.base.pretrained import config_from_json
from models.mqvae import MQVAE, MQVAEConfig
from settings.shard import ShardSettings
from settings.tokenize import TokenizeSettings
from shards.images import ImageShards
from stages import shard, tokenize
from workspace.runs import RunFolder
from workspace.settings import Compute, read_tree

IMAGES, BATCH, PAIRS = 512, 64, 5
FACES = ROOT / "data" / "faces"
COMPUTE = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")


def measure() -> Iterable[Result]:
    """One result."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        yield tokenizing(Path(name))


def tokenizing(folder: Path) -> Result:
    """Images per second."""
    claim = Claim(
        row=8,
        name="tokenize",
        title="tokenize, JPEG shards to token shards, 64 px",
        unit="images/s",
        better="higher",
        against="the encoder alone on ready tensors",
        bar=at_least(0.9),
    )
    preset = read_tree(ROOT / "presets" / "faces.yaml")
    config: MQVAEConfig = config_from_json(MQVAEConfig, preset["mqvae"]["model"])
    torch.manual_seed(0)
    MQVAE(config).save_pretrained(folder / "mqvae")
    shards = image_shards(folder, config.image_size)
    settings = TokenizeSettings.model_validate(
        {
            "batch": BATCH,
            "precision": "fp32",
            "block": 1024,
            "augmentations": [{"flip": False}],
            "text_vocab": 0,
            "text_length": 0,
            "seed": 0,
        }
    )
    encoder = tokenize.encoder(tokenize.Inputs(shards.folder, folder / "mqvae"), settings, None, "cpu", 1)
    model = encoder_on(MQVAE.from_pretrained(folder / "mqvae"), torch.device("cpu"))
    job = ShardJob(shards.paths("train")[0], folder / "tokens.tar", 0)
    count = shards.facts.shards["train"][0]
    image_BCHW = torch.rand(BATCH, 3, config.image_size, config.image_size) * 2 - 1
    image_BCHW = image_BCHW.contiguous(memory_format=torch.channels_last)

    def alone() -> None:
        for first in range(0, count, BATCH):
            model.tokenize(image_BCHW[: count - first])

    pairs = alternate(lambda: count / seconds(lambda: encoder(job)), lambda: count / seconds(alone), PAIRS)
    return measured(claim, pairs, {"images": count, "batch": BATCH, "L": config.num_positions, "threads": 1})


def image_shards(folder: Path, size: int) -> ImageShards:
    """JPEG shards of photographs, one tar a split."""
    source = folder / "raw"
    source.mkdir()
    names = (
        sorted(path for path in FACES.rglob("*.jpg"))[:IMAGES] if FACES.is_dir() else drawn(folder / "drawn")
    )
    for number, path in enumerate(names):
        shutil.copyfile(path, source / f"{number:05d}{path.suffix}")
    settings = ShardSettings.model_validate(
        {
            "kind": "folder",
            "source": str(source),
            "image_size": size,
            "format": "jpg",
            "quality": 95,
            "val_fraction": 0.02,
            "samples_per_shard": IMAGES,
            "max_bad_fraction": 0.0,
            "seed": 0,
        }
    )
    run = RunFolder(folder / "run")
    for path in (run.out, run.work, run.metrics):
        path.mkdir(parents=True, exist_ok=True)
    shard.run(settings, COMPUTE, shard.Inputs(), run)
    return ImageShards.open(run.out)


def drawn(folder: Path) -> list[Path]:
    """Smooth noise, if there are no photographs."""
    from PIL import Image

    folder.mkdir()
    for number in range(IMAGES):
        noise = torch.randint(
            256, (8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(number)
        )
        Image.fromarray(noise.numpy()).resize((128, 128), Image.Resampling.BICUBIC).save(
            folder / f"{number:05d}.png"
        )
    return sorted(folder.iterdir())


if __name__ == "__main__":
    main(measure)
