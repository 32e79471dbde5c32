"""MQ-VAE (paper section 3.2, Eq. 1-8): encoder, masker, quantiser, de-masker, decoder; its discriminator and losses."""

from models.mqvae.model import MQVAE, MQVAEConfig, MQVAEOutput, Tokens

__all__ = ["MQVAE", "MQVAEConfig", "MQVAEOutput", "Tokens"]
