"""Generate images: a Stackformer draws codes and positions, an MQ-VAE decodes them (paper section 3.3, Algorithm 1)."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.sampling.decode import decode
from models.mqvae import MQVAE, MQVAEConfig
from models.sampling import Sampler, SamplingSettings, StoppingSampler
from models.sampling.memory import WORKSPACE, Needs, decoding_need, editing_need, sampling_need
from models.sampling.stopping import bounds_of
from models.stackformer import Stackformer, StackformerConfig
from settings.sample import SampleSettings
from workspace.errors import UserError
from workspace.exact.seeds import sample_seed
from workspace.progress import say

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class ImageSampler:
    """Both models on a device, ready to draw.

    Args:
        stackformer: moved to the device, in the precision of the settings.
        mqvae: moved to the device.
        settings: guidance, truncation, precision, seed and batch sizes.
        device: where to compute.
        free: free bytes on the device; batches are lowered to fit. None lowers nothing.

    Raises:
        UserError: the memory is too small for a single image.
    """

    def __init__(
        self,
        stackformer: Stackformer,
        mqvae: MQVAE,
        settings: SampleSettings,
        device: torch.device,
        free: int | None = None,
    ) -> None:
        self.settings = fitted(settings, stackformer.config, mqvae.config, free)
        self.mqvae = mqvae.to(device)
        kept_as = cache_dtype(settings, device)
        model = stackformer.to(device, DTYPES[settings.precision])
        size, given, codes = self.settings.batch, drawing(settings), self.settings.bounds
        self.sampler: Sampler | StoppingSampler = (
            StoppingSampler(model, size, given, kept_as, codes)
            if model.config.stops
            else Sampler(model, size, given, kept_as=kept_as)
        )

    def __call__(self, condition_BC: Tensor, indices: Sequence[int]) -> NDArray[np.uint8]:
        """The images with these numbers, uint8 [B, H, W, 3]; B is `settings.batch`. Image i depends only on (seed, i)."""
        seeds = [sample_seed(self.settings.seed, 0, index, "sample") for index in indices]
        tokens = self.sampler(condition_BC, seeds)
        batch, precision = self.settings.decode_batch, self.settings.decode_precision
        return decode(self.mqvae, tokens.codes_BN, tokens.positions_BN, batch, precision)


def require_lengths(settings: SampleSettings, fewest: int, most: int) -> None:
    """Check `sample.codes` against a model that draws from the fewest to the most codes of an image.

    Raises:
        UserError: `sample.codes` leaves no number.
    """
    try:
        bounds_of(fewest, most, settings.bounds)
    except ValueError as error:
        raise UserError(
            f"sample.codes: {error}; the lengths follow the tokens, see tokenize.budget"
        ) from error


def cache_dtype(settings: SampleSettings, device: torch.device) -> torch.dtype | None:
    """Keys' and values' on a GPU; None on a CPU, where they are fp32."""
    return DTYPES[settings.cache] if device.type == "cuda" else None


def drawing(settings: SampleSettings) -> SamplingSettings:
    """The settings that the sampler takes."""
    return SamplingSettings(settings.guidance_scale, settings.code, settings.position)


def fitted(
    settings: SampleSettings, stackformer: StackformerConfig, mqvae: MQVAEConfig, free: int | None
) -> SampleSettings:
    """The settings, with batches lowered to fit the memory; lowering is reported in one line.

    Args:
        settings: the requested settings.
        stackformer, mqvae: the models that draw and decode.
        free: free bytes on the GPU; None on a CPU, where nothing is lowered.

    Raises:
        UserError: the memory is too small for a single image.
    """
    if free is None:
        return settings
    need = sampling_need if settings.edit is None else editing_need
    drawn = need(stackformer, drawing(settings), DTYPES[settings.precision], DTYPES[settings.cache])
    needs = Needs(drawn, decoding_need(mqvae, WORKSPACE[settings.decode_precision]))
    batch, decode_batch = needs.fit(settings.batch, settings.decode_batch, settings.samples_per_shard, free)
    if not batch:
        raise UserError(
            f"sampling one image needs {needs.told(1, 1)} of GPU memory, and {free / 1e9:.1f} GB are free: free some, or "
            "set sample.precision and sample.cache to bf16"
        )
    lowered = settings.replaced(batch=batch, decode_batch=decode_batch)
    if lowered != settings:
        say(
            f"sample.batch {settings.batch} and decode_batch {settings.decode_batch} need "
            f"{needs.told(settings.batch, settings.decode_batch)} of GPU memory, and {free / 1e9:.1f} GB are free: sampling "
            f"{batch} at a time, decoding {decode_batch}"
        )
    return lowered
