"""Draw the paper's Figures 4, 5 and 6 from the arms of its tables.

python -m experiments.figures codes --runs artifacts/arms --out docs/results                              Figures 4 and 5
python -m experiments.figures curves --runs artifacts/arms --long artifacts/figure6 --out docs/results    Figure 6
"""

import sys
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.speed import measure
from experiments.table import commit_of, place
from reporting.codes import SIDE, read_scatter
from reporting.curves import HEIGHT, WIDTH, read_table
from reporting.figures import GAP, MARGIN, PANEL, TEXT
from reporting.line_chart import Curve, chart, side_by_side
from reporting.markdown import table
from workspace.commands import parser_of
from workspace.errors import UserError
from workspace.exact.manifest import read_json, read_manifest, write_json
from workspace.progress import say

DOCUMENT = Path("docs/results.md")
CODES = {
    "vqgan": "VQGAN, EMA codebook",
    "adaptive-50": "MQ-VAE 50 %, EMA codebook",
    "gradient-vqgan": "VQGAN, gradient codebook",
    "gradient-50": "MQ-VAE 50 %, gradient codebook",
}
MASKS = ("adaptive-75", "adaptive-50", "explored-50")
ROWS = 8
"""Examples of each in Figure 4."""
CURVES = ("vqgan", "adaptive-25", "adaptive-50")
SPEEDS = {"vqgan": 0, "adaptive-25": 25, "adaptive-50": 50, "adaptive-75": 75}
BATCH, REPETITIONS = 32, 5


def codebook(folder: Path, title: str) -> tuple[str, dict[str, float]]:
    """Figure 5 for one MQ-VAE: its codes by two principal components, and what they amount to in numbers."""
    found = read_scatter(folder / "mqvae", {})
    numbers = read_json(folder / "metrics" / "reconstruct" / "metrics.json")
    dots = "".join(
        f'<circle cx="{dot.x}" cy="{dot.y + 20}" r="{dot.radius}" fill="#8a2c7f" fill-opacity=".35" stroke="#8a2c7f" '
        f'stroke-width=".6"/>'
        for dot in found.dots
    )
    group = f'<text x="6" y="14" font-size="15" font-weight="600">{escape(title)}</text>{dots}'
    told = {name: numbers[f"codebook_{name}"] for name in ("usage", "perplexity", "effective_rank")}
    return group, {"codes": found.codes, "first_two_components": sum(found.variance), **told}


def first_rows(figure: Path, out: Path) -> None:
    """The first ROWS rows of a `reporting.figures.figure4`, whose images are 16, 32, 64 or 128 pixels per side."""
    with Image.open(figure) as image:
        height = min(image.height, MARGIN + TEXT + ROWS * (PANEL + GAP))
        image.crop((0, 0, image.width, height)).save(out)


def draw_codes(runs: Path, seed: int, out: Path) -> None:
    """Figure 4, the top of what `reconstruct` drew, and Figure 5 with its numbers."""
    groups, numbers = [], {}
    for arm, title in CODES.items():
        group, numbers[arm] = codebook(runs / arm / str(seed), title)
        groups.append(group)
    (out / "figure5.svg").write_text(side_by_side(groups, SIDE, SIDE + 24), encoding="utf-8")
    for arm in MASKS:
        first_rows(runs / arm / str(seed) / "reconstructions" / "figure4.png", out / f"figure4-{arm}.png")
    value = {"command": "make figures", "commit": commit_of(runs), "seed": seed, "codebooks": numbers}
    write_json(out / "figure5.json", value)
    heads = ["codebook", "codes", "in two components", "usage", "perplexity", "effective rank"]
    shown = "{codes}|{first_two_components:.0%}|{usage:.1%}|{perplexity:.1f}|{effective_rank:.1f}"
    rows = [[CODES[arm], *shown.format(**found).split("|")] for arm, found in numbers.items()]
    place(table(heads, rows), "figure5", DOCUMENT)


def likelihoods(arm: str, seed: int, runs: Path, long: Path) -> tuple[list[Curve], dict[str, Any]]:
    """Training and validation NLL of one long Stackformer, nats a kept code (code and position together)."""
    kept = read_manifest(runs / arm / str(seed) / "tokens", "token-shards").facts["num_kept"]
    train, held = [read_table(long / arm / "metrics" / f"{name}.tsv") for name in ("curves", "validation")]
    width = max(1, len(train.steps) // 60)
    nats = train.terms["code"] + train.terms.get("position", np.zeros(len(train.steps)))
    means = [float(nats[start : start + width].mean()) for start in range(0, len(nats) - width + 1, width)]
    steps = [float(train.steps[start + width - 1]) for start in range(0, len(nats) - width + 1, width)]
    unseen = (held.terms["nats_per_image"] / kept).tolist()
    best = int(np.argmin(unseen))
    told = {
        "train": means[-1],
        "validation": unseen[-1],
        "gap": unseen[-1] - means[-1],
        "best_validation_at": int(held.steps[best]),
        "num_kept": kept,
    }
    lines = [
        Curve(f"{arm}, training", steps, means, dashed=True),
        Curve(f"{arm}, validation", held.steps.tolist(), unseen),
    ]
    return lines, told


def draw_curves(runs: Path, long: Path, seed: int, out: Path) -> None:
    """Figure 6: (a) curves, (b) speed."""
    curves, told = [], {}
    for arm in CURVES:
        pair, told[arm] = likelihoods(arm, seed, runs, long)
        curves += pair
    speeds = {arm: measure(runs / arm / str(seed) / "stackformer", BATCH, REPETITIONS) for arm in SPEEDS}
    rates = [
        Curve(name, list(SPEEDS.values()), [getattr(speeds[arm], name) for arm in SPEEDS])
        for name in ("cached", "uncached")
    ]
    groups = [
        chart("(a) NLL, nats a code", "optimiser steps", curves, pairs=True),
        chart("(b) images per second, one CPU thread", "mask ratio, %", rates, pairs=False),
    ]
    (out / "figure6.svg").write_text(side_by_side(groups, WIDTH, HEIGHT + 4), encoding="utf-8")
    value = {
        "command": "make figure6",
        "commit": commit_of(runs),
        "seed": seed,
        "curves": told,
        "speed": {arm: asdict(speed) | {"batch": BATCH} for arm, speed in speeds.items()},
    }
    write_json(out / "figure6.json", value)
    whole = speeds["vqgan"]
    speed_rows = [
        [
            f"{ratio} %",
            str(speeds[arm].num_kept),
            f"{speeds[arm].cached:.0f}",
            f"{speeds[arm].cached / whole.cached - 1:+.0%}",
            f"{speeds[arm].uncached:.0f}",
        ]
        for arm, ratio in SPEEDS.items()
    ]
    by_speed = table(
        ["mask ratio", "N", "images/s, cached", "against VQGAN", "images/s, uncached"], speed_rows
    )
    heads = ["Stackformer on", "training", "validation", "gap, nats a code", "best validation at step"]
    shown = "{train:.3f}|{validation:.3f}|{gap:+.3f}|{best_validation_at}"
    by_loss = table(heads, [[arm, *shown.format(**found).split("|")] for arm, found in told.items()])
    place(f"{by_speed}\n{by_loss}", "figure6", DOCUMENT)


def main() -> None:
    """The command line."""
    parser = parser_of("experiments.figures", __doc__)
    parser.add_argument("what", choices=("codes", "curves"))
    parser.add_argument("--runs", type=Path, required=True, help="folder with ARM/SEED of the tables")
    parser.add_argument("--long", type=Path, help="folder with ARM of Figure 6's longer Stackformers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for pictures and numbers")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        if arguments.what == "codes":
            draw_codes(arguments.runs, arguments.seed, arguments.out)
        elif arguments.long is None:
            raise UserError("curves needs --long, the folder that `make figure6` trains into")
        else:
            draw_curves(arguments.runs, arguments.long, arguments.seed, arguments.out)
    except FileNotFoundError as error:
        sys.exit(f"{error.filename} is missing: `make table6`, `make figure6` make it")
    except UserError as error:
        sys.exit(str(error))
    say(f"{arguments.out}: {'figures 4 and 5' if arguments.what == 'codes' else 'figure 6'}")


if __name__ == "__main__":
    main()
