"""Small artifacts and metrics, of which the tests make reports."""

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.neighbours import Neighbours
from evaluation.protocol import Protocol
from reporting.page import Sources
from shards.images import ImageFacts
from shards.layouts.listed import Location, SourceImage
from shards.making.pictures import Encoding
from shards.making.plans import ShardPlan
from shards.making.writing import write_shard
from shards.samples import SampleFacts
from tests.reporting.tiny_models import GRID, KEPT, SIZE, write_models
from tests.shards.making import write_index
from workspace.exact.manifest import read_manifest, write_json, write_manifest
from workspace.exact.tar import TarWriter

TRAINING, SAMPLES, COUNTS = 48, 36, (16, 48, 64)
PIPELINE = """
stages:
  shard: {desc: images → WebDataset tars, cmd: x, deps: ["${shard.source}", stages/shard.py],
          outs: [artifacts/shards], metrics: [{metrics/shard/metrics.json: {cache: false}}]}
  reference: {desc: what real images look like, cmd: x, deps: [artifacts/shards], outs: [artifacts/reference]}
  train_mqvae: {desc: stage 1, cmd: x, deps: [artifacts/shards], outs: [artifacts/mqvae]}
  reconstruct: {cmd: x, deps: [artifacts/shards, artifacts/reference, artifacts/mqvae],
                outs: [artifacts/reconstructions, {metrics/reconstruct: {cache: false}}]}
  tokenize: {cmd: x, deps: [artifacts/shards, artifacts/mqvae], outs: [artifacts/tokens]}
  train_stackformer: {desc: stage 2, cmd: x, deps: [artifacts/tokens], outs: [artifacts/stackformer]}
  sample: {cmd: x, deps: [artifacts/stackformer, artifacts/mqvae], outs: [artifacts/samples]}
  evaluate: {cmd: x, deps: [artifacts/samples, artifacts/reference], outs: [artifacts/evaluation, metrics/evaluate]}
  report: {cmd: x, deps: [artifacts/evaluation, artifacts/reconstructions, metrics/evaluate], outs: [report]}
"""


ORIGIN = {
    "revision": "0123456789abcdef" * 2, "changed": ["models/<b>.py"], "preset": "shapes",
    "settings": {"mqvae.steps": 40}, "data": {"source": "data/<i>", "shards": "fedc" * 16},
    "again": "git checkout 0123456789ab && make preset PRESET=shapes && dvc exp run -S mqvae.steps=40",
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """What the fixtures wrote: the report's sources below `root`."""

    root: Path
    sources: Sources


def picture(cls: int, number: int) -> np.ndarray:
    """A shape of the class on a plain ground, uint8 [32, 32, 3]."""
    rng = np.random.default_rng((cls, number))
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2 - rng.uniform(-3, 3, (2, 1, 1))
    radius = rng.uniform(8, 12)
    inside = (
        np.hypot(x, y) < radius,
        np.maximum(abs(x), abs(y)) < radius * 0.85,
        abs(x) + abs(y) < radius * 1.2,
    )
    ground, figure = rng.uniform(30, 225, (2, 3))
    colours = np.where(inside[cls % 3][..., None], figure, ground) + rng.normal(0, 5, (SIZE, SIZE, 3))
    return colours.clip(0, 255).astype(np.uint8)


def protocol(**changes: object) -> Protocol:
    """A protocol as the stage evaluate writes it."""
    values: dict[str, object] = {
        "reference": "9f2c" * 16,
        "reference_split": "val",
        "reference_count": 900,
        "count": 900,
        "resize": "none, 32 px",
        "features": "proxy 5a1b",
        "estimators": {"proxy_fd": "squared Fréchet distance, float64", "psnr": "decibels"},
        "settings": {"guidance_scale": 2.0, "code": {"top_p": 0.9}},
        "seed": 0,
        "made_from": {"samples": "77c1" * 16},
        "versions": {"torch": "2.13.0"},
    }
    return Protocol(**(values | changes))  # type: ignore[arg-type]


def make_sources(root: Path, classes: tuple[str, ...], prompts: tuple[str, ...] = ()) -> Made:
    """Write every artifact and metrics file that the report reads."""
    art, metrics = root / "artifacts", root / "metrics"
    _shards(art / "shards", classes, bool(prompts), root / "pictures")
    _reconstructions(art / "reconstructions", classes)
    _samples(art / "samples", classes, prompts)
    _evaluation(art / "evaluation", read_manifest(art / "samples", "samples").fingerprint)
    write_models(art, classes)
    _metrics(metrics)
    (root / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    names = ("shards", "reconstructions", "samples", "evaluation", "mqvae", "stackformer")
    return Made(
        root, Sources(**{name: art / name for name in names}, numbers=metrics, pipeline=root / "dvc.yaml")
    )


def _shards(folder: Path, classes: tuple[str, ...], captions: bool, pictures: Path) -> None:
    pictures.mkdir(parents=True)
    images = []
    for number in range(TRAINING):
        path, cls = pictures / f"{number}.png", number % max(1, len(classes))
        Image.fromarray(picture(cls, 500 + number)).save(path)
        images.append(SourceImage(f"train/{number}", Location(str(path)), "train", cls if classes else None))
    plan = ShardPlan("train", 0, 0, tuple(images))
    rows = write_shard(plan, Encoding(SIZE, "png", 95), folder)["rows"]
    write_index(folder, "train", rows, [len(rows)])
    write_index(folder, "val", [], [])
    facts = ImageFacts(
        kind="shapes",
        image_size=SIZE,
        format="png",
        classes=classes or None,
        captions=captions,
        attributes=None,
        masks=False,
        counts={"train": TRAINING, "val": 0},
        shards={"train": (TRAINING,), "val": ()},
    )
    write_manifest(folder, "image-shards", asdict(facts), {})


def _evaluation(folder: Path, samples: str) -> None:
    """Neighbours of all samples but the last two, which were not scored; sample 5 is training image 7 again."""
    rng = np.random.default_rng(3)
    scored = SAMPLES - 2
    items = np.stack([rng.permutation(TRAINING)[:4] for _ in range(scored)])
    distances = np.sort(rng.gamma(16, 0.25, (scored, 4)), axis=1)
    items[5], distances[5] = (7, 1, 2, 3), (0, 3, 4, 5)
    folder.mkdir()
    Neighbours(items, distances.astype(np.float32), rng.gamma(16, 0.2, 200).astype(np.float32)).save(folder)
    fits = {
        "kinds": ["ring"] * scored,
        "fit": [None, *np.linspace(0.5, 0.9, scored - 1)],
        "edge": [None] * scored,
    }
    write_json(folder / "shape_fit.json", fits)
    facts = {"images": scored, "features": "proxy", "training_images": 40}
    write_manifest(folder, "evaluation", facts, {"samples": samples, "reference": "9f2c" * 16})


def _reconstructions(folder: Path, classes: tuple[str, ...]) -> None:
    (folder / "examples").mkdir(parents=True)
    told = []
    for number in range(8):
        cls = number % max(1, len(classes))
        image = picture(cls, number)
        noise = np.random.default_rng(number).normal(0, 14, image.shape)
        back = {count: image + noise * KEPT / count for count in (KEPT, *COUNTS)}
        cells = (
            abs(image.astype(float) - image[0, 0]).reshape(GRID, 4, GRID, 4, 3).mean(axis=(1, 3, 4)).ravel()
        )
        scores = 1 / (1 + np.exp(2 - cells / 12))
        order = np.argsort(-scores, kind="stable").tolist()
        Image.fromarray(image).save(folder / "examples" / f"v{number}.input.png")
        for count, made in back.items():
            name = "reconstruction" if count == KEPT else f"from-{count}"
            picture_of = Image.fromarray(made.clip(0, 255).astype(np.uint8))
            picture_of.save(folder / "examples" / f"v{number}.{name}.png")
        told.append(
            {
                "key": f"v{number}",
                "cls": cls if classes else None,
                "grid": [GRID, GRID],
                "scores": scores.tolist(),
                "kept": sorted(order[:KEPT]),
                "codes": [cell % 5 for cell in sorted(order[:KEPT])],
                "order": order,
                "counts": list(COUNTS),
            }
        )
    write_json(folder / "examples.json", told)
    write_manifest(folder, "reconstructions", {"images": 900, "split": "val"}, {})


def _samples(folder: Path, classes: tuple[str, ...], prompts: tuple[str, ...]) -> None:
    folder.mkdir(parents=True)
    for shard in range(2):
        with TarWriter(folder / f"{shard:06d}.tar") as tar:
            for index in range(shard * 18, shard * 18 + 18):
                told: dict[str, object] = {"index": index, "seed": 0}
                if classes:
                    told["cls"] = index % len(classes)
                elif prompts:
                    told["prompt"] = prompts[index % len(prompts)]
                png = io.BytesIO()
                Image.fromarray(picture(index % max(1, len(classes)), 100 + index)).save(png, "png")
                tar.add(f"{index:08d}.png", png.getvalue())
                tar.add(f"{index:08d}.json", json.dumps(told).encode())
    condition = "class" if classes else "text" if prompts else "none"
    sharp = {"temperature": 1.0, "top_k": 0, "top_p": 0.9}
    drawn_under = {"seed": 0, "guidance_scale": 2.0, "code": sharp, "position": sharp, "prompts": None}
    facts = SampleFacts(0, SAMPLES, drawn_under, condition, classes or None, SIZE, SIZE // GRID, 1)
    write_manifest(folder, "samples", asdict(facts), {})


def _metrics(metrics: Path) -> None:
    seconds = {"shard": 9.4, "reference": 15.2, "train_mqvae": 95.1, "reconstruct": 7.7, "tokenize": 3.3}
    seconds |= {"train_stackformer": 85.6, "sample": 4.1, "evaluate": 2.2}
    for stage, took in seconds.items():
        compute = {"device": "cpu", "workers": 0, "threads": 1, "loader_workers": 0, "ray_address": "local"}
        run = {"seconds": took, "compute": compute, "cpus": 2, "versions": {"torch": "2.13.0"}, "adopted": []}
        run["origin"] = ORIGIN | {"date": f"2026-11-2{len(stage) % 10}T10:00:00Z"}
        write_json(metrics / stage / "run.json", run)
    write_json(metrics / "shard" / "metrics.json", {"train": 10000, "val": 900, "skipped": 0})
    write_json(metrics / "sample" / "metrics.json", {"images": 900, "images_per_second_of_a_worker": 301.7})
    scores = {"psnr": 23.24, "psnr_mean_image": 12.63, "psnr_above_mean_image": 10.61, "l1": 0.0412}
    scores |= {
        "ssim": 0.871,
        "codebook_usage": 0.98,
        "proxy_rfd": 4.318,
        "proxy_accuracy": 0.971,
        "mask_auc_smooth": 0.734,
    }
    write_json(metrics / "reconstruct" / "metrics.json", scores)
    protocol(estimators={name: f"how {name} is estimated" for name in scores}).write(metrics / "reconstruct")
    write_json(
        metrics / "evaluate" / "metrics.json",
        {"proxy_fd": 21.46, "proxy_accuracy": 0.753, "proxy_recall": 0.41},
    )
    estimators = {"proxy_fd": "squared Fréchet distance", "proxy_accuracy": "share"}
    protocol(estimators=estimators, warnings=("only 900 images for <96> features",)).write(
        metrics / "evaluate"
    )
    rng = np.random.default_rng(1)
    for stage, terms in (
        ("train_mqvae", ("loss", "l1", "commitment")),
        ("train_stackformer", ("loss", "code", "position")),
    ):
        for name, step, wobble in (("curves", 10, 0.05), ("validation", 200, 0.0)):
            rows = ["\t".join(["step", *terms, *(["samples_per_second"] if wobble else [])])]
            for at in range(step, 1201, step):
                values = [
                    (2.5 - i) * np.exp(-at / 300) + 0.1 * (i + 1) + rng.normal(0, wobble)
                    for i in range(len(terms))
                ]
                rows.append(
                    "\t".join([str(at), *(f"{v:.8g}" for v in values), *(["171.5"] if wobble else [])])
                )
            (metrics / stage / f"{name}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
