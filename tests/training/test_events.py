"""Laws of TensorBoard's event files: they hold the curves and the pictures, and a resumed run tells each step once."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from models.mqvae import MQVAE, MQVAEOutput
from settings.mqvae import MQVAESettings
from tests.training import test_mqvae_training as images
from tests.training.test_mqvae_training import TRAINING
from training.curves import Curves
from training.loop.train import TrainingFolder, train
from training.mqvae.module import MQVAETrainingModule
from workspace.errors import UserError
from workspace.runs import RunFolder
from workspace.settings import Compute

PLAN = TRAINING.replaced(steps=8, log_every=2, validate_every=4, checkpoint_every=4, precision="fp32")
COMPUTE = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")


def folder(path: Path, events: bool = True) -> TrainingFolder:
    places = images.folder(path)
    return TrainingFolder(
        places.work, places.metrics, places.progress_file, None, path / "events" if events else None
    )


def painter(path: Path, plan: MQVAESettings = PLAN) -> MQVAETrainingModule:
    def draw(step: int, image: Tensor, output: MQVAEOutput) -> None:
        target = path / "metrics" / "pictures" / f"step-{step:07d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2), (step, 0, 0)).save(target)

    torch.manual_seed(0)
    return MQVAETrainingModule(MQVAE(plan.model), plan, None, images.pictures(8), torch.device("cpu"), draw)


def read(path: Path) -> Any:
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    found = accumulators.EventAccumulator(str(path / "events"), size_guidance={"scalars": 0, "images": 0})
    return found.Reload()


def agrees(path: Path) -> None:
    """Every number of the curves is there once, and every picture."""
    found = read(path)
    for split, name in (("train", "curves"), ("validation", "validation")):
        past = Curves(path / "metrics" / f"{name}.tsv", 99).past()
        for term in past[0][1]:
            events = found.Scalars(f"{split}/{term}")
            assert [event.step for event in events] == [step for step, _ in past]
            assert [event.value for event in events] == pytest.approx(
                [row[term] for _, row in past], rel=1e-6, abs=1e-6
            )
    pictures = found.Images("pictures")
    assert [(event.step, event.width, event.height) for event in pictures] == [(4, 3, 2), (8, 3, 2)]


def test_event_files_hold_the_curves_and_the_pictures(tmp_path: Path) -> None:
    train(painter(tmp_path), images.batches(PLAN), PLAN, images.Alone(), folder(tmp_path))
    agrees(tmp_path)


@pytest.mark.parametrize("before", [True, False])
def test_a_resumed_run_tells_each_step_once_whoever_asked_before_it(
    tmp_path: Path, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    within_a_second = SimpleNamespace(time=lambda: 1.7e9)
    monkeypatch.setattr("tensorboardX.event_file_writer.time", within_a_second)

    def killed(step: int) -> Any:
        if step == 6:
            raise KeyboardInterrupt
        return images.batches(PLAN)(step)

    with pytest.raises(KeyboardInterrupt):
        train(painter(tmp_path), killed, PLAN, images.Alone(), folder(tmp_path, events=before))
    train(painter(tmp_path), images.batches(PLAN), PLAN, images.Alone(), folder(tmp_path))
    if before:
        agrees(tmp_path)
    else:
        assert [event.step for event in read(tmp_path).Scalars("train/loss")] == [2, 4, 6, 8]


def test_event_files_are_the_runs_own_and_a_missing_package_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = RunFolder(tmp_path / "run"), COMPUTE.replaced(logging=["tensorboard"])
    assert TrainingFolder.of(run, asked).events == tmp_path / "run" / "events"
    assert TrainingFolder.of(run, COMPUTE).events is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"tensorboardX is not installed: run `pip install .*tensorboard\]"):
        TrainingFolder.of(run, asked)
