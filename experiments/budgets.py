"""Per-image budgets on drawn shapes: `python -m experiments.budgets --work FOLDER`, about ten CPU minutes with one thread.

Trains an MQ-VAE for any N and three for one N each (25, 50 and 75 % of L), 400 steps, on the demo's data; compares what they
reconstruct of the validation images; and one for any N for 1,200 steps. A killed run is resumed by the same command. Writes
docs/results/budgets.json and docs/pictures/budgets.png.
"""

import argparse
import io
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from inference.budgets import Plan, chosen, estimated, multiplier_for
from inference.encode import KeyedImages
from models.mqvae import MQVAE
from models.mqvae.model import Tokens
from settings.tokenize import Budget
from shards.images import ImageSample, ImageShards
from shards.images.pixels import to_tensor, to_uint8

ARMS = {
    "any": ("any", 0.5, 400),
    "any, 1200 steps": ("any", 0.5, 1200),
    "fixed 25 %": ("fixed", 0.75, 400),
    "fixed 50 %": ("fixed", 0.5, 400),
    "fixed 75 %": ("fixed", 0.25, 400),
}
"""Name → mqvae.model.kept, mask_ratio, steps."""
JUDGED = "any, 1200 steps"
"""Whose budgets are compared and drawn."""
SEED, BATCH = 0, 100
FEW = (16, 32, 48, 64)
COUNTS = (2, 4, 8, 12, 16, 24, 32, 40, 48, 56, 64)
SHOWN, PICTURED = (8, 16, 32, 64), 10
RESULT, PICTURE = Path("docs/results/budgets.json"), Path("docs/pictures/budgets.png")


def stage(name: str, out: Path, *options: str) -> None:
    """Run a stage by hand, unless its artifact is there."""
    if not (out / "manifest.json").is_file():
        command = [
            sys.executable,
            "-m",
            f"stages.{name}",
            "--set",
            "compute.workers=0",
            *options,
            "--out",
            str(out),
        ]
        subprocess.run(command, check=True)


def trained(work: Path) -> dict[str, MQVAE]:
    """The data and the four models, made where they are missing."""
    stage("draw_shapes", work / "shapes")
    stage("shard", work / "shards", "--set", f"shard.source={work / 'shapes'}")
    models = {}
    for name, (kept, ratio, steps) in ARMS.items():
        changes = {"kept": kept, "mask_ratio": ratio}
        options = [f"--set=mqvae.model.{key}={value}" for key, value in changes.items()]
        options += [
            f"--set=mqvae.steps={steps}",
            f"--set=mqvae.validate_every={steps // 2}",
            f"--set=mqvae.seed={SEED}",
        ]
        out = work / "".join(letter for letter in name if letter.isalnum())
        stage("train_mqvae", out, "--shards", str(work / "shards"), *options)
        models[name] = MQVAE.from_pretrained(out)
    return models


def batches_of(samples: Sequence[ImageSample]) -> Iterator[KeyedImages]:
    """The images, some at a time."""
    for first in range(0, len(samples), BATCH):
        yield KeyedImages.of(samples[first : first + BATCH], SEED)


def remade(model: MQVAE, batch: KeyedImages, kept: int | NDArray[np.int64]) -> torch.Tensor:
    """Reconstructions from `kept` cells, of all images or of each, in [-1, 1]."""
    count = kept if isinstance(kept, int) else torch.from_numpy(kept)
    image_BCHW = to_tensor(batch.images, torch.device("cpu"))
    tokens: Tokens = model.tokenize(image_BCHW, kept=count)
    return model.decode_tokens(tokens.codes_BN, tokens.positions_BN).clamp(-1, 1)


def errors_of(
    model: MQVAE, samples: Sequence[ImageSample], kept: int | NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean squared error, of [0, 1] images, of each reconstruction."""
    errors = []
    for number, batch in enumerate(batches_of(samples)):
        part = kept if isinstance(kept, int) else kept[number * BATCH : number * BATCH + len(batch.keys)]
        image_BCHW = to_tensor(batch.images, torch.device("cpu"))
        errors.append(((remade(model, batch, part) - image_BCHW) / 2).square().mean(dim=(1, 2, 3)))
    return torch.cat(errors).double().numpy()


def decibels(errors: NDArray[np.float64]) -> dict[str, float]:
    """PSNR: the mean over images, and of the mean error."""
    return {
        "psnr": round(float((-10 * np.log10(errors)).mean()), 3),
        "psnr_of_mean_error": round(float(-10 * np.log10(errors.mean())), 3),
    }


def psnr_estimates(model: MQVAE, samples: Sequence[ImageSample], budget: Budget) -> NDArray[np.float64]:
    """PSNR at n = 1 … L of each image, by the ladder."""
    return np.concatenate([estimated(model, batch, budget)[1] for batch in batches_of(samples)])


def jpeg_bytes(sample: ImageSample) -> int:
    """The size of the image as a JPEG of quality 95."""
    made = io.BytesIO()
    Image.fromarray(sample.image).save(made, "jpeg", quality=95)
    return len(made.getvalue())


def budgets(
    model: MQVAE, train: Sequence[ImageSample], val: Sequence[ImageSample]
) -> tuple[list[dict[str, Any]], NDArray[np.int64]]:
    """Lengths by λ against one N, at equal mean N; and those of the last picture's λ (mse, 25 %)."""
    sizes = {
        "jpeg_bytes": [jpeg_bytes(sample) for sample in val],
        "object_area": [float((sample.mask > 127).mean()) for sample in val if sample.mask is not None],
    }
    seen, asked = (psnr_estimates(model, part, Budget(kind="rate")) for part in (train, val))
    rows, shown = [], np.zeros(0, np.int64)
    for share in (0.5, 0.25):
        mean = int(share * model.config.num_positions)
        fixed = decibels(errors_of(model, val, mean))
        for gain in ("psnr", "mse"):
            budget = Budget.model_validate({"kind": "rate", "gain": gain})
            plan = Plan(budget, multiplier_for(budget, seen, mean))
            lengths = chosen(plan, asked)
            errors = errors_of(model, val, lengths)
            guess = np.take_along_axis(asked, lengths[:, None] - 1, axis=1)[:, 0]
            correlations = {
                name: round(float(np.corrcoef(lengths, np.asarray(size))[0, 1]), 3)
                for name, size in sizes.items()
            }
            spread = np.quantile(lengths, [0.05, 0.5, 0.95]).round().astype(int).tolist()
            rows.append(
                {
                    "share": share, "gain": gain, "multiplier": plan.multiplier, "mean": round(float(lengths.mean()), 2),
                    "deviation": round(float(lengths.std()), 2), "quantiles_5_50_95": spread, "by_lambda": decibels(errors),
                    "one_n": fixed, "correlation_with": correlations,
                    "estimate_off_by_db": round(float(np.abs(guess + 10 * np.log10(errors)).mean()), 3),
                }
            )  # fmt: skip
            shown = lengths
    return rows, shown


def draw(model: MQVAE, samples: Sequence[ImageSample], lengths: NDArray[np.int64]) -> None:
    """The same images at four budgets, and with what λ gave each."""
    batch = KeyedImages.of(samples, SEED)
    columns = [("image", batch.images)]
    columns += [(f"{n} of 64", to_uint8(remade(model, batch, n).numpy())) for n in SHOWN]
    columns += [("by rate, mean 16", to_uint8(remade(model, batch, lengths).numpy()))]
    side, gap, head = 96, 6, 18
    canvas = Image.new(
        "RGB", ((side + gap) * len(columns) + gap, (side + gap) * len(samples) + head + gap), "white"
    )
    pen = ImageDraw.Draw(canvas)
    for column, (title, images) in enumerate(columns):
        x = gap + column * (side + gap)
        pen.text((x + 2, 3), title, fill="black")
        for row, image in enumerate(images):
            y = head + row * (side + gap)
            canvas.paste(Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST), (x, y))
            if column == len(columns) - 1:
                pen.rectangle((x, y + side - 14, x + 22, y + side), fill="white")
                pen.text((x + 4, y + side - 13), str(lengths[row]), fill="black")
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(PICTURE, optimize=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.budgets", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the data and the models")
    work = parser.parse_args().work
    torch.set_num_threads(1)
    models, shards = trained(work), ImageShards.open(work / "shards")
    index = {split: shards.index(split) for split in ("train", "val")}
    val = [index["val"].read(row) for row in range(len(index["val"]))]
    train = [index["train"].read(int(row)) for row in np.linspace(0, len(index["train"]) - 1, 900)]
    curves = {
        name: {n: decibels(errors_of(model, val, n))["psnr"] for n in (COUNTS if "any" in name else FEW)}
        for name, model in models.items()
    }
    rows, lengths = budgets(models[JUDGED], train, val)
    result = {
        "arms": ARMS,
        "seed": SEED,
        "images": len(val),
        "psnr_at": curves,
        "judged": JUDGED,
        "budgets": rows,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    order = np.argsort(lengths, kind="stable")[np.linspace(0, len(lengths) - 1, PICTURED).astype(int)]
    draw(models[JUDGED], [val[row] for row in order], lengths[order])


if __name__ == "__main__":
    main()
