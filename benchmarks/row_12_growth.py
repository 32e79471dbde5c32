"""Row 12: growth. Sampling time a token as N grows; the memory of each stage as the data set grows twentyfold.

Sampling: the model of row 1 at N = 64 and 512 of L = 1,024, batch 1, fp32; a token of the longer run should cost no more than its
keys and values add. Memory: the highest resident size of each stage's process (no Ray), on 200 + 20 and on 4,000 + 400 shapes.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.floors import decoding_floor, measure_machine
from benchmarks.harness import (
    ROOT,
    Claim,
    Floor,
    Pairs,
    Result,
    alternate,
    at_most,
    main,
    measured,
    seconds,
)
from benchmarks.row_01_sampling import CONFIG, SETTINGS, THREADS
from models.sampling import Sampler
from models.stackformer import Stackformer
from workspace.errors import UserError
from workspace.settings import read_tree

SHORT, LONG, POSITIONS = 64, 512, 1024
IMAGES, TIMES = 200, 20
MIB = 2**20


def measure() -> Iterable[Result]:
    """Sampling, then each stage."""
    yield sampling()
    yield from memory()


def sampling() -> Result:
    """A token's time in a long run over that in a short one."""
    torch.set_num_threads(THREADS)
    configs = {kept: replace(CONFIG, num_positions=POSITIONS, num_kept=kept) for kept in (SHORT, LONG)}
    samplers = {}
    for kept, config in configs.items():
        torch.manual_seed(0)
        samplers[kept] = Sampler(Stackformer(config).eval(), 1, SETTINGS)
    condition = torch.zeros(1, 1, dtype=torch.int64)

    def a_token(kept: int) -> float:
        return seconds(lambda: samplers[kept](condition, [0])) / kept

    machine = measure_machine(torch.device("cpu"), torch.float32, 2048)
    bounds = [decoding_floor(config, 1, 4, machine) / kept for kept, config in configs.items()]
    claim = Claim(
        row=12,
        name="growth_sampling",
        title=f"a token's time at N = {LONG} over N = {SHORT}",
        unit="×",
        better="lower",
        against="",
        bar=at_most(1.25),
    )
    floor = Floor(bounds[1] / bounds[0], "bytes a token: weights, and the keys and values so far")
    shapes = {"batch": 1, "L": POSITIONS, "width": 512, "layers": "12 + 4", "threads": THREADS}
    return measured(claim, alternate(lambda: a_token(LONG) / a_token(SHORT), pairs=2), shapes, "", floor)


def memory() -> Iterable[Result]:
    """A result a stage: memory at twenty times the images over memory at one."""
    peaks = []
    for images in (IMAGES, IMAGES * TIMES):
        with tempfile.TemporaryDirectory() as name:
            peaks.append(stage_peaks(Path(name), images))
    for stage, small in peaks[0].items():
        large = peaks[1][stage]
        claim = Claim(
            row=12,
            name=f"growth_memory_{stage}",
            title=f"memory of {stage}, {TIMES}× the images",
            unit="×",
            better="lower",
            against="",
            bar=at_most(1.1),
        )
        sizes = {"images": IMAGES, "MiB": small, "images_large": IMAGES * TIMES, "MiB_large": large}
        shapes = sizes | {"pixels": 32}
        yield measured(claim, Pairs((large / small,), ()), shapes, "highest resident size of the process")


def stage_peaks(folder: Path, images: int) -> dict[str, int]:
    """Run every stage in a folder of its own; the highest resident size of each, MiB.

    Raises:
        UserError: a stage failed; the error has its last line.
    """
    (folder / "demo").mkdir()
    for name in ("dvc.yaml", "demo/dvc.yaml"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "params.yaml").write_text(yaml.safe_dump(settings_of(images)), encoding="utf-8")
    commands: dict[str, str] = {}
    for name in ("demo/dvc.yaml", "dvc.yaml"):
        stages = yaml.safe_load((folder / name).read_text(encoding="utf-8"))["stages"]
        commands |= {stage: entry["cmd"] for stage, entry in stages.items()}
    return {stage: peak(folder, stage, command.split()) for stage, command in commands.items()}


def settings_of(images: int) -> dict[str, Any]:
    """presets/tiny.yaml at 32 pixels, with this many training images and samples."""
    params = read_tree(ROOT / "presets" / "tiny.yaml")
    params["shapes"] |= {"image_size": 32, "train": images, "val": images // 10}
    params["shard"]["image_size"] = params["mqvae"]["model"]["image_size"] = 32
    params["sample"]["num_images"] = images // 10
    return params


BETWEEN = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
"""A small process between this one and a stage: a child's figure starts at its parent's size."""


def peak(folder: Path, stage: str, command: list[str]) -> int:
    """Run a stage; its highest resident size, MiB.

    Raises:
        UserError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-S", "-c", BETWEEN, sys.executable, *command[1:]],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"{stage} failed: {done.stderr.strip().splitlines()[-1]}")
    return round(int(done.stdout) * 1024 / MIB)


if __name__ == "__main__":
    main(measure)
