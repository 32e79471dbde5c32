"""A picture of which a part is drawn again: its codes outside stay, those inside are drawn given them.

As many codes are drawn as fell into the region: N is fixed, and outside neither codes nor empty cells change. Where nothing
that stays comes behind the region in raster order, draws are from the model's exact conditional distribution; elsewhere each
new code has seen what is before it, and candidates are weighed by the likelihood of all that stays
(models/sampling/editing.py).

The decoder sees the whole grid, so pixels beside the region may change a little, though their codes do not.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.editing.region import Edit
from inference.encode import KeyedImages, encode
from inference.sampling.decode import decode
from inference.sampling.sample import DTYPES, ImageSampler, cache_dtype, drawing, fitted
from models.mqvae import MQVAE, MQVAEConfig
from models.sampling.editing import Editor, Redrawn, Staying
from models.stackformer import Stackformer
from settings.sample import SampleSettings
from workspace.errors import UserError
from workspace.exact.seeds import sample_seed


def kept_by(mqvae: MQVAEConfig, num_kept: int) -> int | None:
    """The N to ask an MQ-VAE for, where it was trained for any; else None, its own."""
    return num_kept if mqvae.kept == "any" else None


def staying_of(edit: Edit, mqvae: MQVAE, num_kept: int, seed: int = 0) -> Staying:
    """The codes of a picture outside of the region, and the cells inside.

    Args:
        edit: the picture; its name ranks cells where the mask is random, with the seed.
        mqvae: encodes it.
        num_kept: N of the Stackformer that draws.
        seed: of such a mask.

    Raises:
        UserError: no code is inside, so that nothing can be drawn again.
    """
    kept = kept_by(mqvae.config, num_kept)
    found = encode(mqvae, KeyedImages(edit.image[None], [edit.name], seed), kept=kept)
    codes, positions = found.codes[0], found.positions[0]
    stays = ~edit.again_L[positions]
    if stays.all():
        raise UserError(
            f"all {len(codes)} codes of {edit.name} lie outside of the region, so there is none to draw again: "
            "choose a larger one"
        )
    tensors = (torch.from_numpy(part) for part in (codes[stays], positions[stays], edit.again_L))
    return Staying(*tensors)


class ImageEditor:
    """Both models on a device, ready to draw a part of one picture again.

    Args:
        stackformer, mqvae: moved to the device.
        settings: guidance, truncation of what is new, candidates, seed, and how many sequences at a time.
        edit: the picture and the region.
        device: where to compute.
        free: bytes that are free on it; see `inference.sampling.sample.fitted`.

    Attributes:
        effective: number of a picture that was drawn → how many equally good candidates its own were worth.

    Raises:
        UserError: there is nothing to draw again, or no room for a single image.
    """

    def __init__(
        self,
        stackformer: Stackformer,
        mqvae: MQVAE,
        settings: SampleSettings,
        edit: Edit,
        device: torch.device,
        free: int | None = None,
    ) -> None:
        num_kept = stackformer.config.num_kept
        if stackformer.config.stops:
            raise UserError(
                "sample.edit needs a Stackformer of one number of codes, and this one draws "
                f"{stackformer.config.fewest} … {num_kept} per image: tokenize with tokenize.budget.kind fixed and train it again"
            )
        if kept_by(mqvae.config, num_kept) is None and num_kept != mqvae.config.num_kept:
            raise UserError(
                f"sample.edit: the Stackformer draws {num_kept} codes per image, and the MQ-VAE encodes {mqvae.config.num_kept}: "
                "run `dvc repro train_stackformer`"
            )
        self.settings = fitted(settings, stackformer.config, mqvae.config, free)
        self.staying = staying_of(edit, mqvae.to(device), num_kept, settings.seed)
        self.mqvae, self.device = mqvae, device
        self._edit = Editor(
            stackformer.to(device, DTYPES[settings.precision]),
            self.staying,
            drawing(settings),
            settings.candidates,
            self.settings.batch,
            cache_dtype(settings, device),
        )
        self.effective: dict[int, float] = {}

    def tokens(self, condition_BC: Tensor, indices: Sequence[int]) -> Redrawn:
        """Codes and positions of these numbers; see `__call__`."""
        seed, count = self.settings.seed, self.settings.candidates
        seeds = [
            [sample_seed(seed, 0, index, purpose(number)) for number in range(count)] for index in indices
        ]
        return self._edit(condition_BC, seeds)

    def __call__(self, condition_BC: Tensor, indices: Sequence[int]) -> NDArray[np.uint8]:
        """The pictures of these numbers, uint8 [B, S, S, 3]; picture i follows from (seed, i)."""
        at_once = max(1, self.settings.batch // self.settings.candidates)
        images = []
        for first in range(0, len(indices), at_once):
            part = slice(first, first + at_once)
            drawn = self.tokens(condition_BC[part], indices[part])
            self.effective |= zip(indices[part], drawn.effective_B.tolist(), strict=True)
            batch, precision = self.settings.decode_batch, self.settings.decode_precision
            images.append(decode(self.mqvae, drawn.codes_BN, drawn.positions_BN, batch, precision))
        return np.concatenate(images)


def drawer(
    stackformer: Stackformer,
    mqvae: MQVAE,
    settings: SampleSettings,
    edit: Edit | None,
    device: torch.device,
    free: int | None,
) -> ImageSampler | ImageEditor:
    """What draws images with these models: a part of one picture again, or new ones; arguments as of `ImageEditor`."""
    if edit is None:
        return ImageSampler(stackformer, mqvae, settings, device, free)
    return ImageEditor(stackformer, mqvae, settings, edit, device, free)


def purpose(candidate: int) -> str:
    """A candidate's seed purpose: the first one's equals `sample`'s, so that drawing everything again gives its images."""
    return f"candidate {candidate}" if candidate else "sample"
