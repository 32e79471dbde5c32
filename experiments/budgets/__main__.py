"""Budgets per image: `python -m experiments.budgets --work FOLDER`, about half an hour of CPU time with one thread.

    ways      one MQ-VAE for any N against those for one N (25, 50, 75 % of L) at equal steps, and other ways to train it
    gains     lengths by λ against one N at equal mean N: errors, distances, what lengths go with; drawn shapes and photographs
    samples   Stackformers on tokens of one N and of lengths by λ: nats per image, distance, as-asked, lengths

A killed run is resumed by the same command. Writes docs/results/budgets.json, part by part.
"""

from pathlib import Path
from typing import Any

import torch

from experiments.budgets.gains import Judge, compared, curve
from experiments.budgets.made import Made, Training
from experiments.budgets.picture import draw
from experiments.budgets.samples import sampled
from workspace.commands import parser_of
from workspace.exact.manifest import read_json, write_json
from workspace.progress import say

COUNTS = (2, 4, 8, 12, 16, 24, 32, 40, 48, 56, 64)
FEW = (16, 32, 48, 64)
SHARES = (0.25, 0.5)
TRIED: dict[str, tuple[str, ...]] = {
    "one number per step": ("mqvae.kept_draws=1",),
    "one number, uniform": ("mqvae.kept_draws=1", "mqvae.kept_power=0"),
}
"""Ways to train one model for any N that were tried alone: changes to the settings."""
BUDGETS: tuple[dict[str, Any], ...] = ({"gain": "mse"}, {"gain": "lpips"})
RATE = {"kind": "rate", "mask_ratio": 0.75}
SAMPLED: dict[str, dict[str, Any]] = {
    "one N": {"kind": "fixed", "mask_ratio": 0.75},
    "by rate, multiples of 8": RATE | {"multiple_of": 8},
    "by rate": RATE,
}
"""Tokens on which Stackformers are compared: `tokenize.budget`."""
PARTS = ("ways", "gains", "samples")
RESULT, PICTURE = Path("docs/results/budgets.json"), Path("docs/pictures/budgets.png")


def folder_of(name: str) -> str:
    """A name without what paths do not hold."""
    return "".join(filter(str.isalnum, name))


def ways(made: Made, steps: int, seed: int) -> dict[str, Any]:
    """PSNR at each number of cells, of each way to train."""
    judge = Judge.of(made, "shapes")
    one_n = {
        f"fixed {share:.0%}": Training("shapes", "fixed", 1 - share, steps, seed)
        for share in (0.25, 0.5, 0.75)
    }
    any_n = {name: Training("shapes", "any", 0.5, steps, seed, changes) for name, changes in TRIED.items()}
    any_n = {"any": Training("shapes", "any", 0.5, steps, seed), **any_n}
    found: dict[str, dict[str, Any]] = {}
    for name, training in {**any_n, **one_n}.items():
        found[name] = {"psnr_at": curve(judge, made.mqvae(training), COUNTS if name == "any" else FEW)}
        found[name] |= {"changes": list(training.changes)} if training.changes else {}
    return found


def gains(made: Made, data: str, steps: int, seed: int) -> dict[str, Any]:
    """By λ against one N, of a data set."""
    judge, training = Judge.of(made, data), Training(data, "any", 0.5, steps, seed)
    model = made.mqvae(training)
    rows = compared(judge, model, SHARES, BUDGETS)
    return {
        "steps": steps,
        "images": len(judge.samples),
        "psnr_at": curve(judge, model, COUNTS),
        "budgets": rows,
    }


def main() -> None:
    """The command line."""
    parser = parser_of("experiments.budgets", __doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the data and the models")
    parser.add_argument("--photographs", type=Path, default=Path("data"), help="folder of flowers and faces")
    parser.add_argument(
        "--weights",
        type=Path,
        default=Path("weights"),
        help="folder of SqueezeNet's weights and LPIPS's heads",
    )
    parser.add_argument(
        "--data", nargs="+", default=["shapes", "flowers"], choices=("shapes", "flowers", "faces")
    )
    parser.add_argument("--steps", type=int, default=400, help="of each MQ-VAE; the demo has 1,200")
    parser.add_argument("--picture", action="store_true", help="draw docs/pictures/budgets.png too")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of training")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="which of the three")
    given = parser.parse_args()
    torch.set_num_threads(1)
    made = Made(given.work, given.photographs.absolute(), given.weights.absolute())
    result = read_json(RESULT) if RESULT.is_file() else {}
    for part in given.parts:
        for seed in given.seeds:
            for data in given.data if part == "gains" else ["shapes"]:
                key = f"{part}, {data}, {given.steps} steps, seed {seed}"
                say(key)
                if part == "ways":
                    result[key] = ways(made, given.steps, seed)
                elif part == "gains":
                    result[key] = gains(made, data, given.steps, seed)
                else:
                    training = Training("shapes", "any", 0.5, given.steps, seed)
                    result.setdefault(key, {})
                    for name, budget in SAMPLED.items():
                        result[key][name] = sampled(made, training, folder_of(name), budget, seed)
                        write_json(RESULT, result)
                write_json(RESULT, result)
    if given.picture:
        draw(
            Judge.of(made, "shapes"),
            made.mqvae(Training("shapes", "any", 0.5, given.steps, given.seeds[0])),
            PICTURE,
        )


if __name__ == "__main__":
    main()
