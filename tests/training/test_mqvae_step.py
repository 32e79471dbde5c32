"""One step of MQ-VAE's training equals VQGAN's published way of doing it, in losses and gradients."""

import copy
import dataclasses
import functools
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from benchmarks.literal_mqvae import LiteralStep
from evaluation.perceptual.lpips import LPIPSConfig
from models.mqvae import MQVAE, MQVAEOutput
from settings.mqvae import ExplorationConfig, LossConfig, MQVAESettings
from tests.models.tiny_mqvae import TINY
from training.mqvae.module import ImageBatch, MQVAETrainingModule

CONFIG = replace(
    TINY,
    num_codes=8,
    mask_ratio=0.25,
    quantizer=replace(TINY.quantizer, kind="gradient", restart_every=0, restart_below=0.0),
)
LOSS = LossConfig(
    l1=1.0,
    l2=0.5,
    perceptual=0.0,
    adversarial=0.8,
    adaptive_max=1e4,
    discriminator_start=0,
    discriminator_ramp=1,
    discriminator_channels=8,
    discriminator_layers=2,
    discriminator_learning_rate=1e-3,
)
TRAINING = MQVAESettings(
    steps=4,
    seed=0,
    learning_rate=1e-3,
    warmup_steps=0,
    min_lr_ratio=1.0,
    beta1=0.5,
    beta2=0.9,
    max_grad_norm=0.0,
    ema_decay=0.9,
    precision="float64",
    channels_last=False,
    compile=False,
    quantize_start=0,
    loss=LOSS,
    exploration=ExplorationConfig(noise=0.0, anneal_start=0, anneal_end=0, freeze_start=None),
    global_batch=4,
    micro_batch=4,
    flip=False,
    init_from=None,
    log_every=1,
    validate_every=4,
    validate_images=1,
    checkpoint_every=4,
    perceptual=LPIPSConfig("none", None, None),
    model=CONFIG,
)


def everything_at_work(module: nn.Module) -> None:
    """Nothing is left at zero: a new block is the identity, and would hide what it does."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def pair(training: MQVAESettings) -> tuple[MQVAETrainingModule, LiteralStep]:
    torch.manual_seed(0)
    model = MQVAE(training.model)
    everything_at_work(model)

    def nothing(step: int, image: Tensor, output: MQVAEOutput) -> None:
        """No pictures."""

    training_module = MQVAETrainingModule(model, training, None, torch.zeros(1), torch.device("cpu"), nothing)
    everything_at_work(training_module.discriminator)
    literal = LiteralStep(
        copy.deepcopy(training_module.model), copy.deepcopy(training_module.discriminator), LOSS, 1e-3
    )
    return training_module, literal


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None
    }


@pytest.mark.parametrize(("channels_last", "refine"), [(False, 0), (True, 0), (True, 3)])
def test_a_step_has_the_losses_and_gradients_of_two_generator_passes(
    channels_last: bool, refine: int
) -> None:
    config = dataclasses.replace(CONFIG, refine=refine)
    training_module, literal = pair(TRAINING.replaced(channels_last=channels_last, model=config))
    image = torch.rand(4, 3, 16, 16, dtype=torch.float64) * 2 - 1
    terms = training_module.micro_step(ImageBatch(image, 0, [0, 1, 2, 3]), 0, 1.0)
    total = literal.generator_backward(image)
    literal.discriminator.zero_grad()
    discriminator_loss = literal.discriminator_backward(image)
    torch.testing.assert_close(terms["loss"], total)
    torch.testing.assert_close(terms["discriminator"], discriminator_loss)
    for ours, theirs in (
        (training_module.model, literal.model),
        (training_module.discriminator, literal.discriminator),
    ):
        assert len(gradients(ours)) == len(list(ours.parameters()))
        torch.testing.assert_close(gradients(ours), gradients(theirs), rtol=1e-8, atol=1e-12)


def test_a_captured_step_has_the_losses_and_gradients_of_an_eager_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As `compile: true` runs it, but for the kernels: Inductor takes minutes to write them for a CPU."""
    monkeypatch.setattr(
        torch, "compile", functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    )
    eager, _ = pair(TRAINING)
    compiled, _ = pair(TRAINING.replaced(compile=True))
    batch = ImageBatch(torch.rand(4, 3, 16, 16) * 2 - 1, 0, [0, 1, 2, 3])
    terms = [training_module.micro_step(batch, 0, 1.0) for training_module in (eager, compiled)]
    torch.testing.assert_close(terms[0], terms[1])
    torch.testing.assert_close(gradients(eager.model), gradients(compiled.model), rtol=1e-8, atol=1e-12)
