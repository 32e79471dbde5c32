"""Laws of the training loop, on MQ-VAE's step: learning, resume to the bit, golden losses, split batches."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evaluation.perceptual.lpips import LPIPSConfig
from models.mqvae import MQVAE, MQVAEConfig, MQVAEOutput
from settings.mqvae import ExplorationConfig, LossConfig, MQVAESettings
from tests.models.tiny_mqvae import TINY
from training.loop.checkpoints import list_checkpoints
from training.loop.train import TrainingFolder, train
from training.mqvae.module import ImageBatch, MQVAETrainingModule
from workspace.settings import Compute

CONFIG = replace(
    TINY,
    image_size=8,
    channel_multipliers=(1,),
    attention=False,
    num_codes=8,
    demask_blocks=1,
    quantizer=replace(TINY.quantizer, decay=0.9, restart_every=5),
)
LOSS = LossConfig(
    l1=1.0,
    l2=1.0,
    perceptual=0.0,
    adversarial=0.5,
    adaptive_max=10.0,
    discriminator_start=12,
    discriminator_ramp=4,
    discriminator_channels=8,
    discriminator_layers=1,
    discriminator_learning_rate=1e-3,
)
TRAINING = MQVAESettings(
    steps=20,
    seed=3,
    learning_rate=3e-3,
    warmup_steps=2,
    min_lr_ratio=0.1,
    beta1=0.9,
    beta2=0.99,
    max_grad_norm=1.0,
    ema_decay=0.9,
    precision="float64",
    channels_last=False,
    compile=False,
    max_bad_steps=0,
    quantize_start=4,
    loss=LOSS,
    exploration=ExplorationConfig(noise=2.0, anneal_start=6, anneal_end=12, freeze_start=16),
    global_batch=8,
    micro_batch=4,
    flip=False,
    init_from=None,
    log_every=1,
    validate_every=10,
    validate_images=16,
    checkpoint_every=5,
    perceptual=LPIPSConfig("none", None, None),
    model=CONFIG,
)
GOLDEN = Path(__file__).with_name("golden_mqvae.json")


@dataclass(frozen=True)
class Alone:
    """A group of one worker."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")


def pictures(count: int) -> Tensor:
    """Images with an edge each, from which there is something to learn."""
    generator = torch.Generator().manual_seed(1)
    colours = torch.rand(count, 2, 3, 1, 1, generator=generator) * 2 - 1
    edge = torch.randint(1, 7, (count, 1, 1, 1), generator=generator)
    return (
        torch.where(torch.arange(8) < edge, colours[:, 0], colours[:, 1]).expand(-1, -1, 8, -1).contiguous()
    )


def batches(settings: MQVAESettings) -> Callable[[int], Sequence[ImageBatch]]:
    images = pictures(64)

    def of(step: int) -> Sequence[ImageBatch]:
        rows = [(step * settings.global_batch + row) % 64 for row in range(settings.global_batch)]
        firsts = range(0, settings.global_batch, settings.micro_batch)
        chosen = [(first, rows[first : first + settings.micro_batch]) for first in firsts]
        return [ImageBatch(images[part], first, [step * 64 + row for row in part]) for first, part in chosen]

    return of


def training_module(settings: MQVAESettings = TRAINING, config: MQVAEConfig = CONFIG) -> MQVAETrainingModule:
    torch.manual_seed(settings.seed)

    def draw(step: int, image: Tensor, output: MQVAEOutput) -> None:
        assert output.reconstruction_BCHW.shape == image.shape

    return MQVAETrainingModule(MQVAE(config), settings, None, pictures(16), torch.device("cpu"), draw)


def folder(path: Path) -> TrainingFolder:
    return TrainingFolder(path / "work", path / "metrics", path / "progress.json")


def losses(path: Path, name: str, file: str = "curves.tsv") -> list[float]:
    header, *rows = [line.split("\t") for line in (path / "metrics" / file).read_text().splitlines()]
    return [float(row[header.index(name)]) for row in rows]


def newest(path: Path) -> bytes:
    return (list_checkpoints(path / "work")[-1] / "state.safetensors").read_bytes()


def test_thirty_steps_lower_l1_on_held_out_images(tmp_path: Path) -> None:
    loss = dataclasses.replace(LOSS, adversarial=0.0)
    settings = TRAINING.replaced(steps=30, learning_rate=1e-2, max_grad_norm=0.0, loss=loss, validate_every=1)
    train(training_module(settings), batches(settings), settings, Alone(), folder(tmp_path))
    l1 = losses(tmp_path, "l1", "validation.tsv")
    assert l1[-1] < 0.8 * l1[0]


def test_the_losses_of_twenty_steps_are_the_golden_ones(tmp_path: Path) -> None:
    """Rewrite the file on purpose with: python tests/training/test_mqvae_training.py."""
    train(training_module(), batches(TRAINING), TRAINING, Alone(), folder(tmp_path))
    golden = json.loads(GOLDEN.read_text())
    assert losses(tmp_path, "loss") == pytest.approx(golden["loss"], rel=1e-6)


class Killed(Exception):
    """What ends a run in the middle here (the real kill of a process is in tests/test_workflow.py)."""


def test_a_killed_and_resumed_run_gives_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = batches(TRAINING)

    def broken(step: int) -> Sequence[ImageBatch]:
        if step == 13:
            raise Killed("at step 13")
        return whole(step)

    train(training_module(), whole, TRAINING, Alone(), folder(tmp_path / "whole"))
    with pytest.raises(Killed, match="at step 13"):
        train(training_module(), broken, TRAINING, Alone(), folder(tmp_path / "killed"))
    train(training_module(), whole, TRAINING, Alone(), folder(tmp_path / "killed"))
    assert newest(tmp_path / "killed") == newest(tmp_path / "whole")
    for name in ("loss", "l1", "codebook_perplexity"):
        assert losses(tmp_path / "killed", name) == losses(tmp_path / "whole", name)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 20240613123456), ("b", 20240613123456), ("c", 4)):
        settings = TRAINING.replaced(steps=5, seed=seed)
        train(training_module(settings), batches(settings), settings, Alone(), folder(tmp_path / name))
    assert newest(tmp_path / "a") == newest(tmp_path / "b") != newest(tmp_path / "c")


def test_a_loss_that_is_not_finite_stops_the_run_and_is_named(tmp_path: Path) -> None:
    subject = training_module()
    with torch.no_grad():
        subject.model.mask_code_D.fill_(math.inf)
    with pytest.raises(ValueError, match=r"step 1: the loss term loss is (nan|inf)"):
        train(subject, batches(TRAINING), TRAINING, Alone(), folder(tmp_path))


def test_micro_batches_are_dealt_out_whole_to_any_number_of_workers() -> None:
    settings = TRAINING.replaced(global_batch=24)
    here = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")
    for size in (1, 2, 3, 4, 6):
        dealt = [index for rank in range(size) for index in settings.mine(rank, size)]
        assert sorted(dealt) == list(range(6))
    with pytest.raises(ValueError, match="6 micro-batches for 7 workers"):
        settings.mine(0, 7)
    with pytest.raises(
        ValueError, match="6 micro-batches for 7 workers; lower compute.workers or micro_batch"
    ):
        settings.check("mqvae", here.replaced(workers=7))
    with pytest.raises(ValueError, match=r"mqvae.global_batch 24 is not a multiple of micro_batch 5"):
        settings.replaced(micro_batch=5).check("mqvae", here)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        torch.set_num_threads(1)
        train(training_module(), batches(TRAINING), TRAINING, Alone(), folder(Path(name)))
        GOLDEN.write_text(json.dumps({"loss": losses(Path(name), "loss")}, indent=1) + "\n")
