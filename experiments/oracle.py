"""How much a perfect choice of cells would gain, for a decoder that favours no choice.

python -m experiments.oracle --runs artifacts/court --seed 0 --shards artifacts/shards --out docs/results/oracle.json

The court's MQ-VAE with random masks has seen all sets of N cells. Here it reconstructs the same held-out images from the cells
that each chooser keeps: each rule's, those of the paper's scorer as the court trained it, and an oracle's, which sees the
reconstruction: from a checkerboard, for each image, a kept cell is swapped for another if its squared error gets smaller, `SWAPS`
times. A better set may exist, so the oracle's gain is the least that there is to gain. Codes do not depend on the choice.

Shapes: B images, C = 3 channels, H and W pixels, L cells of the grid, N kept, D features.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.table import commit_of
from models.mqvae import MQVAE
from models.mqvae.choosers import FIXED, fixed_ranking
from models.mqvae.masker import random_ranking, top_positions
from shards.images import ImageShards
from shards.images.pixels import to_tensor
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import write_json
from workspace.progress import Progress

NEUTRAL, LEARNED = "random-75-f2", "adaptive-75-f2"
IMAGES, SWAPS = 64, 512


class Neutral:
    """A model with random masks, and some images' codes at all cells.

    Args:
        model: in eval mode.
        image_BCHW: in [-1, 1].
    """

    def __init__(self, model: MQVAE, image_BCHW: Tensor) -> None:
        self.model, self.image_BCHW = model, image_BCHW
        length = model.config.num_positions
        order = model.tokenize_all(image_BCHW, random_ranking(range(len(image_BCHW)), length))
        self.codes_BL = order.codes_BL

    @torch.no_grad()
    def errors(self, positions_BN: Tensor) -> Tensor:
        """Mean squared error [B], of [0, 1] images, of reconstructions from these cells."""
        made_BCHW = self.model.decode_tokens(self.codes_BL.gather(1, positions_BN), positions_BN)
        return ((made_BCHW.clamp(-1, 1) - self.image_BCHW) / 2).square().mean(dim=(1, 2, 3))


def swapped(positions_BN: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """The positions with one of each image's N in another, free cell, in any order."""
    batch, kept = positions_BN.shape
    kept_BL = torch.zeros(batch, length, dtype=torch.bool).scatter(1, positions_BN, True)
    free_B = torch.rand(batch, length, generator=generator).masked_fill(kept_BL, -1).argmax(dim=1)
    place_B = torch.randint(kept, (batch,), generator=generator)
    return positions_BN.scatter(1, place_B[:, None], free_B[:, None])


def searched(neutral: Neutral, positions_BN: Tensor, swaps: int, seed: int) -> Tensor:
    """Positions [B, N] after a climb by `swaps` attempts from the given ones; no image's error rises."""
    generator = torch.Generator().manual_seed(seed)
    best_B, length = neutral.errors(positions_BN), neutral.model.config.num_positions
    with Progress("oracle", swaps, "swaps") as bar:
        for number in range(swaps):
            other_BN = swapped(positions_BN, length, generator)
            error_B = neutral.errors(other_BN)
            better_B = error_B < best_B
            positions_BN = torch.where(better_B[:, None], other_BN, positions_BN)
            best_B = torch.where(better_B, error_B, best_B)
            bar.update(number + 1, psnr=decibels(best_B))
    return positions_BN.sort(dim=1).values


def decibels(error_B: Tensor) -> float:
    """PSNR, the mean over images."""
    return float(-10 * error_B.log10().mean())


def compared(neutral: Neutral, learned: MQVAE, seed: int, swaps: int) -> dict[str, float]:
    """Chooser → PSNR of its cells, in decibels."""
    config, images = neutral.model.config, neutral.image_BCHW
    rankings = {kind: fixed_ranking(kind, images, config.grid) for kind in FIXED}
    rankings["random"] = random_ranking(range(seed, seed + len(images)), config.num_positions)
    kept = {name: top_positions(ranking_BL, config.num_kept) for name, ranking_BL in rankings.items()}
    kept["the paper's scorer"] = learned.tokenize(images).positions_BN
    kept["oracle"] = searched(neutral, kept["checkerboard"], swaps, seed)
    return {name: round(decibels(neutral.errors(positions_BN)), 3) for name, positions_BN in kept.items()}


def images_of(folder: Path, count: int) -> Tensor:
    """Held-out images, evenly from all, [count, C, H, W] in [-1, 1]."""
    index = ImageShards.open(folder).index("val")
    rows = np.linspace(0, len(index) - 1, min(count, len(index))).astype(int)
    return to_tensor(np.stack([index.read(int(row)).image for row in rows]), torch.device("cpu"))


def main() -> None:
    """The command line."""
    parser = parser_of("experiments.oracle", __doc__)
    parser.add_argument("--runs", type=Path, required=True, help="folder with ARM/SEED of the court")
    parser.add_argument("--seed", type=int, default=0, help="seed of the runs, and of random cells and swaps")
    parser.add_argument(
        "--shards", type=Path, default=Path("artifacts/shards"), help="image shards (artifacts/shards)"
    )
    parser.add_argument("--out", type=Path, required=True, help="where the JSON goes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with mistakes_in_one_line():
        folders = [arguments.runs / arm / str(arguments.seed) / "mqvae" for arm in (NEUTRAL, LEARNED)]
        missing = [folder for folder in folders if not folder.is_dir()]
        if missing:
            raise UserError(f"{missing[0]} is missing: `make court` makes it")
        neutral_model, learned = (MQVAE.from_pretrained(folder) for folder in folders)
        neutral = Neutral(neutral_model, images_of(arguments.shards, IMAGES))
        found = compared(neutral, learned, arguments.seed, SWAPS)
        value = {"images": len(neutral.image_BCHW), "swaps": SWAPS, "seed": arguments.seed, "psnr": found}
        write_json(arguments.out, value | {"commit": commit_of(arguments.runs), "model": NEUTRAL})


if __name__ == "__main__":
    main()
