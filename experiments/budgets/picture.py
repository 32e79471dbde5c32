"""The picture of docs/budgets.md: the same images at four budgets, and with what λ gave each."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from experiments.budgets.gains import SEED, Judge, Lengths, remade
from inference.budgets import Plan, chosen, multiplier_for
from inference.encode import KeyedImages
from models.mqvae import MQVAE
from settings.tokenize import Budget
from shards.images.pixels import to_tensor, to_uint8

SHOWN, PICTURED, MEAN = (8, 16, 32, 64), 10, 16
SIDE, GAP, HEAD = 96, 6, 18


def draw(judge: Judge, model: MQVAE, path: Path) -> None:
    """Ten held-out images, from the one with the fewest cells to the one with the most."""
    budget = Budget(kind="rate")
    quality = judge.quality(model, budget)
    lengths = chosen(Plan(budget, multiplier_for(budget, quality, MEAN)), quality)
    order = np.argsort(lengths, kind="stable")[np.linspace(0, len(lengths) - 1, PICTURED).astype(int)]
    batch = KeyedImages.of([judge.samples[row] for row in order], SEED)
    cells = model.tokenize_all(to_tensor(batch.images, next(model.parameters()).device))

    def made(given: Lengths) -> np.ndarray:
        return to_uint8(remade(model, cells, given).numpy())

    total = model.config.num_positions
    columns = [("image", batch.images)]
    columns += [(f"{n} of {total}", made(np.full(PICTURED, n))) for n in SHOWN]
    columns += [(f"by rate, mean {MEAN}", made(lengths[order]))]
    canvas = Image.new(
        "RGB", ((SIDE + GAP) * len(columns) + GAP, (SIDE + GAP) * PICTURED + HEAD + GAP), "white"
    )
    pen = ImageDraw.Draw(canvas)
    for column, (title, images) in enumerate(columns):
        x = GAP + column * (SIDE + GAP)
        pen.text((x + 2, 3), title, fill="black")
        for row, image in enumerate(images):
            y = HEAD + row * (SIDE + GAP)
            canvas.paste(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.NEAREST), (x, y))
            if column == len(columns) - 1:
                pen.rectangle((x, y + SIDE - 14, x + 22, y + SIDE), fill="white")
                pen.text((x + 4, y + SIDE - 13), str(lengths[order[row]]), fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, optimize=True)
