"""A handful of shapes as shards and samples, an untrained MQ-VAE and small settings, for the tests of the scoring stages."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from demo.drawing import KINDS, Drawing, attribute_values, draw_shape
from evaluation.perceptual.lpips import LPIPSConfig
from models.mqvae import MQVAE
from models.mqvae.masker import MaskKind
from settings.evaluate import EvaluateSettings
from settings.reconstruct import ReconstructSettings
from settings.reference import ProxySettings, ReferenceSettings
from shards.images import ImageFacts, ImageShards
from shards.layouts.listed import Location, SourceImage
from shards.making.pictures import Encoding
from shards.making.plans import ShardPlan
from shards.making.writing import write_image_manifest, write_shard
from tests.models.tiny_mqvae import TINY
from tests.shards.making import write_index
from workspace.exact.manifest import write_manifest
from workspace.exact.tar import TarWriter
from workspace.runs import RunFolder
from workspace.settings import Compute

COUNTS = {"train": 72, "val": 36}


PER_TAR = 36


HERE = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")


PROXY = ProxySettings(width=4, batch=16, steps=20, learning_rate=1e-2, softened=0.5)


REFERENCE = ReferenceSettings(
    features="proxy",
    weights=None,
    torchscript_sha256=None,
    fid_split="val",
    max_images=None,
    batch=16,
    seed=0,
    proxy=PROXY,
)


RECONSTRUCT = ReconstructSettings(
    batch=10,
    precision="fp32",
    split="val",
    examples=3,
    seed=0,
    lpips=LPIPSConfig("none", None, None),
    torchscript_sha256=None,
)


EVALUATE = EvaluateSettings(num_images=None, batch=16, seed=0, torchscript_sha256=None)


def png(pixels: np.ndarray) -> bytes:
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "png")
    return made.getvalue()


def drawn(folder: Path, split: str, number: int, labelled: bool) -> SourceImage:
    shape = draw_shape(Drawing(32, (0.3, 0.44), 0.4, 15.0), 0, split, number)
    name = f"{split}/{number}"
    picture, mask = (folder / f"{split}-{number}-{part}.png" for part in ("picture", "mask"))
    picture.write_bytes(png(shape.image))
    mask.write_bytes(png(shape.mask))
    data = Location(str(picture))
    if not labelled:
        return SourceImage(name, data, split)
    cls = KINDS.index(shape.kind)
    return SourceImage(name, data, split, cls, (shape.caption,), shape.attributes, Location(str(mask)))


def write_shards(root: Path, labelled: bool = True) -> Path:
    """Image shards of shapes: two tars for training, one for validation."""
    folder, pictures = root / "shards", root / "pictures"
    pictures.mkdir(parents=True)
    sizes = {split: (PER_TAR,) * (count // PER_TAR) for split, count in COUNTS.items()}
    for split, tars in sizes.items():
        rows = []
        for number in range(len(tars)):
            numbers = range(number * PER_TAR, (number + 1) * PER_TAR)
            images = [drawn(pictures, split, item, labelled) for item in numbers]
            rows += write_shard(
                ShardPlan(split, number, numbers[0], tuple(images)), Encoding(32, "png", 95), folder
            )["rows"]
        write_index(folder, split, rows, tars)
    attributes = {name: tuple(values) for name, values in attribute_values().items()}
    facts = ImageFacts(
        kind="shapes" if labelled else "folder",
        image_size=32,
        format="png",
        classes=KINDS if labelled else None,
        captions=labelled,
        attributes=attributes if labelled else None,
        masks=labelled,
        counts=COUNTS,
        shards=sizes,
    )
    write_image_manifest(folder, facts, made_from={})
    return folder


def write_mqvae(folder: Path, mask: MaskKind) -> Path:
    config = replace(
        TINY,
        image_size=32,
        patch_size=4,
        channel_multipliers=(1,),
        attention=False,
        mask=mask,
        demask_blocks=1,
    )
    torch.manual_seed(0)
    MQVAE(config).save_pretrained(folder)
    write_manifest(folder, "mqvae", {"image_size": 32}, made_from={})
    return folder


def write_samples(folder: Path, shards: Path, count: int, classes: bool = True, split: str = "val") -> Path:
    """Samples that are real images: of the split val, as if a perfect model had made them."""
    folder.mkdir()
    index = ImageShards.open(shards).index(split)
    with TarWriter(folder / "000000.tar") as tar:
        for number in range(count):
            real = index.read(number)
            told = {"index": number, "seed": 0} | (
                {"cls": real.cls} if classes else {"prompt": real.captions[0]}
            )
            tar.add(f"{number:08d}.png", png(real.image))
            tar.add(f"{number:08d}.json", json.dumps(told).encode())
    names = list(KINDS) if classes else None
    facts = {"seed": 0, "count": count, "settings": {"guidance_scale": 1}, "classes": names, "image_size": 32}
    facts |= {"cell_pixels": 4, "stem_pixels": 2, "condition": "class" if classes else "text"}
    write_manifest(folder, "samples", facts, made_from={"stackformer": "0" * 64})
    return folder


def run_folder(root: Path) -> RunFolder:
    folder = RunFolder(root)
    for path in (folder.out, folder.metrics, folder.work):
        path.mkdir(parents=True, exist_ok=True)
    return folder
