"""VQGAN's encoder and decoder (Esser et al. 2021, their section 3.1), with an optional space-to-depth patch_size.

Shapes: B images, C channels, H and W in pixels or cells, D features of a cell.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """torch's, whose backward pass on a CPU crashes where it learns from a channels-last input that needs no gradient: behind
    frozen parts (torch 2.13). Another layout of the input prevents it.
    """

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        learns_alone = self.weight.requires_grad and not x_BCHW.requires_grad and torch.is_grad_enabled()
        out_BCHW: Tensor = super().forward(x_BCHW.contiguous() if learns_alone else x_BCHW)
        return out_BCHW


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with at least 4 channels per group and at most 32 groups; equal to VQGAN's at VQGAN's widths."""
    return GroupNorm(max(1, min(32, channels // 4)), channels, eps=1e-6)


class ResBlock(nn.Module):
    """(norm, SiLU, 3×3 convolution) twice, added to its input; the last convolution is initialised to zero."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(channels), nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2, self.conv2 = group_norm(out_channels), nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)
        nn.init.zeros_(self.conv2.weight)
        if self.conv2.bias is not None:
            nn.init.zeros_(self.conv2.bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """[B, C, H, W] → [B, out, H, W]."""
        h_BCHW = self.conv1(F.silu(self.norm1(x_BCHW)))
        h_BCHW = self.conv2(F.silu(self.norm2(h_BCHW)))
        out_BCHW: Tensor = self.shortcut(x_BCHW) + h_BCHW
        return out_BCHW


class GridAttention(nn.Module):
    """VQGAN's attention block: one head over all cells, added to its input; the projection is initialised to zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.to_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        x_B1LC = rearrange(self.norm(x_BCHW), "b c h w -> b 1 (h w) c")
        q_B1LC, k_B1LC, v_B1LC = self.to_qkv(x_B1LC).chunk(3, dim=-1)
        out_B1LC = self.to_out(F.scaled_dot_product_attention(q_B1LC, k_B1LC, v_B1LC))
        out_BCHW: Tensor = rearrange(out_B1LC, "b 1 (h w) c -> b c h w", h=x_BCHW.shape[2])
        return x_BCHW + out_BCHW


def _level(channels: int, out_channels: int, blocks: int, attention: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for index in range(blocks):
        layers.append(ResBlock(channels if index == 0 else out_channels, out_channels))
        if attention:
            layers.append(GridAttention(out_channels))
    return layers


def _middle(channels: int, attention: bool) -> list[nn.Module]:
    between = [GridAttention(channels)] if attention else []
    return [ResBlock(channels, channels), *between, ResBlock(channels, channels)]


class Downsample(nn.Module):
    """Halve height and width: a 3×3 convolution of stride 2, padded at the right and the bottom."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C, H/2, W/2]."""
        out_BCHW: Tensor = self.conv(F.pad(x_BCHW, (0, 1, 0, 1)))
        return out_BCHW


class Upsample(nn.Module):
    """Double height and width: nearest neighbours, then a 3×3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C, 2H, 2W]."""
        out_BCHW: Tensor = self.conv(F.interpolate(x_BCHW, scale_factor=2.0, mode="nearest"))
        return out_BCHW


class Encoder(nn.Sequential):
    """Image [B, 3, H₀, W₀] → grid [B, D, H, W], f = patch_size · 2^(levels - 1).

    Args:
        patch_size: space-to-depth factor before the first convolution (1 in VQGAN).
        channels: ch; level i has `channels * channel_multipliers[i]`.
        channel_multipliers: one per level.
        blocks: ResBlocks per level.
        attention: whether the last level and the middle attend over the grid.
        dim: D.
    """

    def __init__(
        self,
        patch_size: int,
        channels: int,
        channel_multipliers: tuple[int, ...],
        blocks: int,
        attention: bool,
        dim: int,
    ):
        widths = [channels * multiplier for multiplier in channel_multipliers]
        layers: list[nn.Module] = [
            nn.PixelUnshuffle(patch_size),
            nn.Conv2d(3 * patch_size * patch_size, channels, 3, padding=1),
        ]
        before = channels
        for index, width in enumerate(widths):
            last = index == len(widths) - 1
            layers += _level(before, width, blocks, attention and last)
            layers += [] if last else [Downsample(width)]
            before = width
        layers += [
            *_middle(before, attention),
            group_norm(before),
            nn.SiLU(),
            nn.Conv2d(before, dim, 3, padding=1),
        ]
        super().__init__(*layers)


class Decoder(nn.Sequential):
    """Grid [B, D, H, W] → image [B, 3, H₀, W₀]; the encoder's mirror, with one more ResBlock per level, as in VQGAN.

    Args:
        patch_size, channels, channel_multipliers, blocks, attention, dim: as in the encoder.
        refine: channels before a last 3×3 convolution at full resolution; 0 leaves it out. Without it each of the patch_size²
            pixels of a block has its own weights; with it all pixels share the last ones.
    """

    def __init__(
        self,
        patch_size: int,
        channels: int,
        channel_multipliers: tuple[int, ...],
        blocks: int,
        attention: bool,
        dim: int,
        refine: int = 0,
    ):
        widths = [channels * multiplier for multiplier in reversed(channel_multipliers)]
        layers: list[nn.Module] = [nn.Conv2d(dim, widths[0], 3, padding=1), *_middle(widths[0], attention)]
        before = widths[0]
        for index, width in enumerate(widths):
            layers += _level(before, width, blocks + 1, attention and index == 0)
            layers += [] if index == len(widths) - 1 else [Upsample(width)]
            before = width
        layers += [
            group_norm(before),
            nn.SiLU(),
            nn.Conv2d(before, (refine or 3) * patch_size * patch_size, 3, padding=1),
            nn.PixelShuffle(patch_size),
        ]
        layers += [nn.SiLU(), nn.Conv2d(refine, 3, 3, padding=1)] if refine else []
        super().__init__(*layers)
        self.tail = 1 if refine else 2  # the last convolution, and the shuffle if that comes after it

    @property
    def last_weight(self) -> Tensor:
        """The weight of the last convolution."""
        convolution = self[-self.tail]
        assert isinstance(convolution, nn.Conv2d)
        return convolution.weight

    def until_last(self, z_BDHW: Tensor) -> Tensor:
        """All layers before the last convolution: grid → that convolution's input [B, C, H, W]."""
        for layer in list(self)[: -self.tail]:
            z_BDHW = layer(z_BDHW)
        return z_BDHW

    def last(self, x_BCHW: Tensor) -> Tensor:
        """The last convolution and the pixel shuffle: its input → image [B, 3, H₀, W₀]."""
        for layer in list(self)[-self.tail :]:
            x_BCHW = layer(x_BCHW)
        return x_BCHW
