"""Laws of the discriminator: it does not win, and it goes from one training to the next."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from models.mqvae import MQVAE
from models.mqvae.discriminator import FOLDER, PatchDiscriminator
from settings.mqvae import ExplorationConfig
from tests.training import test_mqvae_training as images
from tests.training.test_mqvae_training import LOSS, TRAINING
from training.loop.train import train
from training.mqvae.adversary import first_discriminator
from workspace.errors import UserError
from workspace.settings import Compute

CAP = 0.1
ALWAYS = TRAINING.replaced(
    steps=300,
    precision="fp32",
    learning_rate=1e-3,
    min_lr_ratio=0.0,
    global_batch=4,
    exploration=ExplorationConfig(0.0, 0, 0, None),
    loss=dataclasses.replace(
        LOSS,
        adversarial=0.8,
        adaptive_max=CAP,
        discriminator_start=20,
        discriminator_ramp=1,
        discriminator_learning_rate=3e-3,
    ),
    log_every=10,
    validate_every=300,
    checkpoint_every=300,
)


def test_after_300_steps_the_discriminator_has_not_won_and_the_weight_keeps_its_cap(tmp_path: Path) -> None:
    """With a rate that stayed at its peak its loss was 0.01 by then (decisions/0057)."""
    subject = images.training_module(ALWAYS)
    train(subject, images.batches(ALWAYS), ALWAYS, images.Alone(), images.folder(tmp_path))
    assert min(images.losses(tmp_path, "discriminator")[-5:]) > 0.1
    weights = images.losses(tmp_path, "adaptive_weight")
    assert 0 < max(weights) <= CAP + 1e-6
    rates = {group["lr"] for group in subject.optimizers["discriminator"].param_groups}
    assert max(rates) < 1e-6


def test_the_discriminators_gradient_is_clipped_by_its_own_norm() -> None:
    settings = ALWAYS.replaced(max_grad_norm=1e-3)
    subject = images.training_module(settings)
    subject.micro_step(images.batches(settings)(30)[0], 30, 1.0)
    subject.finish_step(30, lambda tensor: tensor)
    for module in (subject.model, subject.discriminator):
        gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
        assert float(torch.nn.utils.get_total_norm(gradients)) == pytest.approx(1e-3, rel=1e-3)


def test_a_published_discriminator_is_where_another_training_begins(tmp_path: Path) -> None:
    MQVAE(TRAINING.model).save_pretrained(tmp_path)
    old = images.training_module(ALWAYS).discriminator
    old.save_pretrained(tmp_path / FOLDER)
    torch.manual_seed(9)
    begun = first_discriminator(ALWAYS.replaced(init_from=tmp_path))
    torch.testing.assert_close(begun.state_dict(), old.state_dict(), rtol=0, atol=0)
    wide = ALWAYS.replaced(
        init_from=tmp_path, loss=dataclasses.replace(ALWAYS.loss, discriminator_channels=16)
    )
    with pytest.raises(
        UserError, match="discriminator_channels 16 and discriminator_layers 1, .* 8 and 1; make"
    ):
        first_discriminator(wide)
    assert first_discriminator(wide.replaced(init_partial=True)).sizes.channels == 16
    (tmp_path / FOLDER / "config.json").write_text(json.dumps({"channels": 8}))
    with pytest.raises(
        UserError, match=r"^mqvae\.init_from: .*config\.json: DiscriminatorConfig lacks layers"
    ):
        first_discriminator(ALWAYS.replaced(init_from=tmp_path))
    assert PatchDiscriminator(8, 1).sizes == begun.sizes


def test_a_discriminator_is_published_only_where_there_is_one() -> None:
    alone = Compute(device="cpu", workers=0, threads=1, loader_workers=0, ray_address="local")
    none = TRAINING.replaced(publish_discriminator=True, loss=dataclasses.replace(LOSS, adversarial=0.0))
    with pytest.raises(UserError, match="mqvae.publish_discriminator is true and loss.adversarial 0"):
        none.check("mqvae", alone)
