"""A small MQ-VAE's config, from which tests change what they are about by `dataclasses.replace`."""

from models.mqvae import MQVAEConfig
from models.mqvae.quantizer import QuantizerConfig

TINY = MQVAEConfig(
    image_size=16,
    patch_size=2,
    channels=8,
    channel_multipliers=(1, 2),
    res_blocks=1,
    attention=True,
    code_dim=8,
    num_codes=16,
    mask="adaptive",
    mask_ratio=0.5,
    scorer_width=8,
    demask="dcsa_update",
    demask_blocks=2,
    quantizer=QuantizerConfig(
        kind="ema",
        estimator="straight_through",
        decay=0.99,
        commitment=0.25,
        restart_every=20,
        restart_below=0.1,
    ),
)
