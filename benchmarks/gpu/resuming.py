"""A training resumed from a checkpoint ends where an uninterrupted one ends, through the stage itself."""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.gpu.phase import Place
from benchmarks.tokens_made import write_random_tokens
from shards.tokens import TokenFacts
from stages import train_stackformer
from training.loop.checkpoints import list_checkpoints
from workflow.params import load_params
from workspace.runs import RunFolder

ROOT = Path(__file__).resolve().parents[2]
STEPS, HALF = 6, 3


def resumed(place: Place) -> dict[str, Any]:
    """Six steps at once, and from the checkpoint after three; equal bits are reported, closeness is required."""
    facts = TokenFacts(
        (8, 8), 128, 32, ("a", "b"), None, None, {"train": 64, "val": 16}, "adaptive", "0" * 64
    )
    folder = place.work / "resume"
    shutil.rmtree(folder, ignore_errors=True)
    tokens = write_random_tokens(folder / "tokens", facts, 32, 64).folder
    whole, half = run_folder(folder / "whole"), run_folder(folder / "half")
    train(place, tokens, whole)
    kept = list_checkpoints(whole.work)
    assert [path.name for path in kept] == [f"step-{steps:09d}" for steps in (HALF, STEPS)], kept
    shutil.copytree(kept[0], half.work / kept[0].name)
    train(place, tokens, half)
    one, other = (load_file(run.out / "model.safetensors") for run in (half, whole))
    apart = max(float((one[name] - other[name]).abs().max()) for name in other)
    return {
        "largest_difference": apart,
        "equal_bits": apart == 0,
        "ok": apart <= 1e-5,
        "torch": torch.__version__,
    }


def run_folder(path: Path) -> RunFolder:
    """An empty one."""
    folder = RunFolder(path)
    for part in (folder.out, folder.metrics, folder.work):
        part.mkdir(parents=True)
    return folder


def train(place: Place, tokens: Path, folder: RunFolder) -> None:
    """Run the stage there."""
    changes = {
        "steps": STEPS,
        "checkpoint_every": HALF,
        "validate_every": STEPS,
        "condition": "none",
        "cfg_dropout": 0.0,
    }
    sets = [f"stackformer.{name}={value}" for name, value in changes.items()]
    params = load_params(ROOT / "presets" / "tiny.yaml", [*sets, "sample.guidance_scale=1.0"])
    compute = params.compute.replaced(device=place.device, workers=0, threads=1)
    train_stackformer.run(params.stackformer, compute, train_stackformer.Inputs(tokens), folder)
