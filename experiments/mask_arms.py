"""How the ranking of cells matters: adaptive with exploration, adaptive as in the paper, random; equal steps, several seeds.

    python experiments/mask_arms.py --seeds 0 1 2        after `dvc repro reference`: writes docs/results/mask_arms.{json,md}

Each arm is the committed demo with other settings, through the stages themselves (`train_mqvae`, `reconstruct`), in one process
of one thread. Arms that are done are not trained again.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ARMS = {
    "adaptive, explored": (),
    "adaptive, the paper's ranking": ("mqvae.exploration.noise=0", "mqvae.exploration.freeze_from=1.0"),
    "random": ("mqvae.model.mask=random",),
}
NUMBERS = ("psnr", "psnr_above_mean_image", "mask_auc_smooth", "mask_auc_textured", "proxy_accuracy")
ALONE = ("compute.workers=0", "compute.threads=1")
OUT, RESULTS = Path(".runs/mask_arms"), Path("docs/results")


def stage(name: str, changes: Sequence[str], *options: str) -> None:
    """Run a stage's main with other settings."""
    sets = [word for change in (*changes, *ALONE) for word in ("--set", change)]
    subprocess.run([sys.executable, "-m", f"stages.{name}", *options, *sets], check=True)


def run_arm(arm: str, changes: Sequence[str], seed: int, steps: int) -> dict[str, float]:
    """Train and score one arm with one seed; returns its numbers."""
    changes = [*changes, f"mqvae.steps={steps}", f"mqvae.quantize_from={steps // 10}"]
    folder = OUT / f"{arm.replace(' ', '-').replace(',', '').replace(chr(39), '')}-{steps}-{seed}"
    numbers = folder / "numbers" / "metrics.json"
    if not (folder / "mqvae" / "manifest.json").is_file():
        stage("train_mqvae", [*changes, f"mqvae.seed={seed}"], "--out", str(folder / "mqvae"))
    if not numbers.is_file():
        options = (
            "--mqvae",
            str(folder / "mqvae"),
            "--out",
            str(folder / "back"),
            "--metrics",
            str(numbers.parent),
        )
        stage("reconstruct", [], *options)
    found: dict[str, float] = json.loads(numbers.read_text(encoding="utf-8"))
    return {name: found[name] for name in NUMBERS}


def table(found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Markdown: mean ± standard deviation over seeds."""
    lines = ["| arm | " + " | ".join(NUMBERS) + " |", "|---" * (len(NUMBERS) + 1) + "|"]
    for arm, runs in found.items():
        cells = []
        for name in NUMBERS:
            values = [run[name] for run in runs]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{spread}")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1210, help="of each arm; a tenth of them unquantised")
    arguments = parser.parse_args()
    seeds, steps = arguments.seeds, arguments.steps
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for seed in seeds:
        for arm, changes in ARMS.items():
            found[arm].append(run_arm(arm, changes, seed, steps))
    pairs = zip(found["adaptive, explored"], found["random"], strict=True)
    held = [adaptive["psnr"] > chance["psnr"] for adaptive, chance in pairs]
    RESULTS.mkdir(parents=True, exist_ok=True)
    value = {"seeds": seeds, "steps": steps, "arms": found, "adaptive_beats_random_in_psnr": held}
    (RESULTS / "mask_arms.json").write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    (RESULTS / "mask_arms.md").write_text(table(found), encoding="utf-8")


if __name__ == "__main__":
    main()
