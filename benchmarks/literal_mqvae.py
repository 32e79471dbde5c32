"""MQ-VAE's training step as VQGAN's published code does it: the reference of rows 5 and 6.

Two forward passes of the generator a step (one an optimiser), swish written out, an L × L attention matrix, the adaptive
weight by two more passes back through the losses, three passes of the discriminator, Adam as it comes. Weights and arithmetic
are those of `models/`: tests hold the losses and gradients of both equal.

Shapes: B images, C channels, H and W pixels or cells, L cells, N kept, D features.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.optim import Adam

from models.mqvae import MQVAE
from models.mqvae.autoencoder import GridAttention, ResBlock
from models.mqvae.demasker import Demasker, DirectionConstrainedAttention
from models.mqvae.discriminator import PatchDiscriminator
from models.mqvae.masker import fill
from settings.mqvae import LossConfig


def swish(x: Tensor) -> Tensor:
    """x · σ(x)."""
    return x * torch.sigmoid(x)


def attention_matrix(q_BLD: Tensor, k_BLD: Tensor) -> Tensor:
    """softmax(q kᵀ / √D), [B, L, L]."""
    scores_BLL = torch.bmm(q_BLD, k_BLD.transpose(1, 2)) * q_BLD.shape[-1] ** -0.5
    return torch.softmax(scores_BLL, dim=2)


def res_block(block: ResBlock, x_BCHW: Tensor) -> Tensor:
    """A ResBlock with swish."""
    h_BCHW = block.conv1(swish(block.norm1(x_BCHW)))
    h_BCHW = block.conv2(swish(block.norm2(h_BCHW)))
    out_BCHW: Tensor = block.shortcut(x_BCHW) + h_BCHW
    return out_BCHW


def grid_attention(block: GridAttention, x_BCHW: Tensor) -> Tensor:
    """VQGAN's attention block with its matrix."""
    x_BLC = rearrange(block.norm(x_BCHW), "b c h w -> b (h w) c")
    q_BLC, k_BLC, v_BLC = block.to_qkv(x_BLC).chunk(3, dim=-1)
    out_BLC = block.to_out(torch.bmm(attention_matrix(q_BLC, k_BLC), v_BLC))
    return x_BCHW + rearrange(out_BLC, "b (h w) c -> b c h w", h=x_BCHW.shape[2])


def constrained_attention(block: DirectionConstrainedAttention, z_BDHW: Tensor, trust_BL: Tensor) -> Tensor:
    """Eq. 5-7 with their matrix: each row of the softmax times B."""
    z_BLD = rearrange(block.norm(z_BDHW), "b d h w -> b (h w) d")
    q_BLD, k_BLD, v_BLD = block.to_qkv(z_BLD).chunk(3, dim=-1)
    heard_BLD = torch.bmm(attention_matrix(q_BLD, k_BLD) * trust_BL[:, None, :], v_BLD)
    return z_BDHW + rearrange(block.to_out(heard_BLD), "b (h w) d -> b d h w", h=z_BDHW.shape[2])


def through(layers: nn.Sequential, x_BCHW: Tensor) -> Tensor:
    """An encoder or a decoder, layer by layer."""
    for layer in layers:
        if isinstance(layer, ResBlock):
            x_BCHW = res_block(layer, x_BCHW)
        elif isinstance(layer, GridAttention):
            x_BCHW = grid_attention(layer, x_BCHW)
        else:
            x_BCHW = swish(x_BCHW) if isinstance(layer, nn.SiLU) else layer(x_BCHW)
    return x_BCHW


def demask(demasker: Demasker, z_BDHW: Tensor, kept_BL: Tensor) -> Tensor:
    """Eq. 5-8."""
    one = z_BDHW.new_ones(())
    trust_BL = torch.where(kept_BL, one, 0.02 * one)
    for block, attention in zip(demasker.res_blocks, demasker.attentions, strict=True):
        assert isinstance(block, ResBlock) and isinstance(attention, DirectionConstrainedAttention)
        z_BDHW = constrained_attention(attention, res_block(block, z_BDHW), trust_BL)
        trust_BL = trust_BL.sqrt()
    assert isinstance(demasker.last, ResBlock)
    return res_block(demasker.last, z_BDHW)


def forward(model: MQVAE, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Reconstruction and the quantiser's loss."""
    z_BLD = rearrange(through(model.encoder, image_BCHW), "b d h w -> b (h w) d").contiguous()
    masked = model.masker(z_BLD)
    quantized = model.quantizer(masked.features_BND)
    grid_BLD = fill(quantized.vectors_BND, masked.positions_BN, model.mask_code_D, model.config.num_positions)
    grid_BDHW = rearrange(grid_BLD, "b (h w) d -> b d h w", h=model.config.grid).contiguous()
    return through(model.decoder, demask(model.demasker, grid_BDHW, masked.kept_BL)), quantized.loss


class LiteralStep:
    """`training_step` of VQGAN's published code for both optimisers, one after the other.

    Args:
        model: trained in place.
        discriminator: trained in place.
        loss: weights of the terms; no perceptual one.
        learning_rate: of both optimisers.
    """

    def __init__(
        self, model: MQVAE, discriminator: PatchDiscriminator, loss: LossConfig, learning_rate: float
    ) -> None:
        self.model, self.discriminator, self.loss = model, discriminator, loss
        self.model_adam = Adam(model.parameters(), lr=learning_rate, betas=(0.5, 0.9))
        self.discriminator_adam = Adam(
            discriminator.parameters(), lr=loss.discriminator_learning_rate, betas=(0.5, 0.9)
        )

    def generator_backward(self, image_BCHW: Tensor) -> Tensor:
        """Backward of the generator's loss; returns it."""
        recovered_BCHW, commitment = forward(self.model, image_BCHW)
        reconstruction = self.loss.l1 * F.l1_loss(recovered_BCHW, image_BCHW)
        reconstruction = reconstruction + self.loss.l2 * F.mse_loss(recovered_BCHW, image_BCHW)
        adversarial = -self.discriminator(recovered_BCHW).mean()
        last = self.model.decoder.last_weight
        rec_norm = torch.autograd.grad(reconstruction, last, retain_graph=True)[0].norm()
        adv_norm = torch.autograd.grad(adversarial, last, retain_graph=True)[0].norm()
        weight = (rec_norm / (adv_norm + 1e-4)).clamp(0.0, self.loss.adaptive_max).detach()
        total = reconstruction + self.loss.adversarial * weight * adversarial + commitment
        total.backward()
        return total.detach()

    def discriminator_backward(self, image_BCHW: Tensor) -> Tensor:
        """Backward of the discriminator's loss, on a forward pass of its own; returns it."""
        recovered_BCHW, _ = forward(self.model, image_BCHW)
        real, fake = self.discriminator(image_BCHW), self.discriminator(recovered_BCHW.detach())
        loss = 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())
        loss.backward()
        return loss.detach()

    def __call__(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """One step of each optimiser; returns both losses."""
        self.model_adam.zero_grad()
        generator_loss = self.generator_backward(image_BCHW)
        self.model_adam.step()
        self.discriminator_adam.zero_grad()
        discriminator_loss = self.discriminator_backward(image_BCHW)
        self.discriminator_adam.step()
        return generator_loss, discriminator_loss
