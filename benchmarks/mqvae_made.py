"""MQ-VAEs of rows 5 to 7, and one step of their training."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from evaluation.perceptual.lpips import LPIPSConfig
from models.mqvae import MQVAE, MQVAEConfig, MQVAEOutput
from models.mqvae.quantizer import QuantizerConfig
from settings.mqvae import ExplorationConfig, LossConfig, MQVAESettings
from training.mqvae.module import ImageBatch, MQVAETrainingModule

RATE = 4e-5
QUANTIZER = QuantizerConfig(
    kind="gradient",
    estimator="straight_through",
    decay=0.99,
    commitment=0.25,
    restart_every=0,
    restart_below=0.0,
)
SMALL = MQVAEConfig(
    image_size=64,
    patch_size=1,
    channels=64,
    channel_multipliers=(1, 1, 2, 2),
    res_blocks=1,
    attention=True,
    code_dim=128,
    num_codes=1024,
    mask="adaptive",
    mask_ratio=0.25,
    scorer_width=128,
    demask="dcsa_update",
    demask_blocks=8,
    quantizer=QUANTIZER,
)
"""The paper's network at f8, 64 pixels and half its width."""

SIZES = {"f8": SMALL, "f4": replace(SMALL, channel_multipliers=(1, 2, 2))}
FULL = replace(SMALL, image_size=256, channels=128, res_blocks=2, code_dim=256, scorer_width=256)
"""The paper's at 256 pixels, f8."""

LOSS = LossConfig(
    l1=1.0,
    l2=0.0,
    perceptual=0.0,
    adversarial=0.8,
    adaptive_max=1e4,
    discriminator_start=0,
    discriminator_ramp=1,
    discriminator_channels=64,
    discriminator_layers=3,
    discriminator_learning_rate=RATE,
)
TRAINING = MQVAESettings(
    steps=1000,
    seed=0,
    learning_rate=RATE,
    warmup_steps=0,
    min_lr_ratio=1.0,
    beta1=0.5,
    beta2=0.9,
    max_grad_norm=0.0,
    ema_decay=0.999,
    precision="fp32",
    channels_last=True,
    compile=False,
    quantize_start=0,
    global_batch=1,
    micro_batch=1,
    flip=False,
    init_from=None,
    log_every=1000,
    validate_every=1000,
    validate_images=1,
    checkpoint_every=1000,
    perceptual=LPIPSConfig("none", None, None),
    model=SMALL,
    loss=LOSS,
    exploration=ExplorationConfig(noise=0.0, anneal_start=0, anneal_end=0, freeze_start=None),
)


def no_pictures(step: int, image_BCHW: Tensor, output: MQVAEOutput) -> None:
    """Nothing is drawn."""


def training_module_of(
    config: MQVAEConfig, training: MQVAESettings, batch: int, device: torch.device
) -> MQVAETrainingModule:
    """With weights of seed 0."""
    torch.manual_seed(0)
    held_out = torch.zeros(1, 3, config.image_size, config.image_size)
    settings = training.replaced(model=config, global_batch=batch, micro_batch=batch)
    return MQVAETrainingModule(MQVAE(config), settings, None, held_out, device, no_pictures)


def one_step(training_module: MQVAETrainingModule, image_BCHW: Tensor) -> Callable[[], dict[str, float]]:
    """A call is a step of everything: both losses, both optimisers, codebook, EMA; returns its loss terms."""
    batch = ImageBatch(image_BCHW, 0, list(range(len(image_BCHW))))

    def run() -> dict[str, float]:
        for optimizer in training_module.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        terms = training_module.micro_step(batch, 0, 1.0)
        training_module.finish_step(0, lambda tensor: tensor)
        return {name: float(value.detach()) for name, value in terms.items()}

    return run
