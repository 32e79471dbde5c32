"""Section `tokenize`: encoding images as codes and positions."""

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from evaluation.perceptual.lpips import LPIPSConfig
from workspace.errors import UserError
from workspace.exact.seeds import Seed
from workspace.settings import Compute, Section, Settings

FIRST_RUNG = 1 / 32
"""Share of the cells below which no image is tried."""


class Augmentation(Settings):
    """One version of each training image."""

    flip: bool = Field(description="mirror the image left to right")


class Budget(Settings):
    """How many cells of an image are stored; other than `fixed` with the MQ-VAE's own number needs mqvae.model.kept: any."""

    kind: Literal["fixed", "quality", "rate"] = Field(
        default="fixed",
        description="fixed: N cells of every image; quality: as few as reach a PSNR or a distance; rate: as many as are "
        "worth their codes",
    )
    mask_ratio: NonNegativeFloat | None = Field(
        default=None,
        lt=1,
        description="share of the cells that is not stored: of every image (fixed), or on the mean of the training images "
        "(rate); null takes the MQ-VAE's",
    )
    psnr: PositiveFloat = Field(
        default=25.0, le=100, description="of quality: decibels that a reconstruction is to reach"
    )
    distance: PositiveFloat | None = Field(
        default=None,
        le=2,
        description="of quality, instead of psnr: the LPIPS that a reconstruction may have at most, by tokenize.lpips; "
        "null leaves it to psnr",
    )
    gain: Literal["mse", "psnr", "lpips"] = Field(
        default="mse",
        description="of rate: what the next cell must lower by λ (mse; lpips, by tokenize.lpips), or raise by it (psnr)",
    )
    rungs: PositiveInt = Field(
        default=6,
        ge=3,
        description="of quality and rate: numbers of cells at which each image is reconstructed to decide",
    )
    multiple_of: PositiveInt = Field(
        default=1,
        description="of quality and rate: N is a multiple of it, or all cells: fewer lengths for a Stackformer to tell apart",
    )
    estimate_images: PositiveInt = Field(
        default=2048, description="of rate: training images, at most, on which λ is found"
    )

    @property
    def by(self) -> Literal["mse", "psnr", "lpips"]:
        """What reconstructions are judged by."""
        if self.kind == "quality":
            return "psnr" if self.distance is None else "lpips"
        return self.gain if self.kind == "rate" else "mse"

    @property
    def goal(self) -> float:
        """The quality to reach, the higher the better: decibels, or minus LPIPS."""
        return self.psnr if self.distance is None else -self.distance

    def mean_kept(self, mask_ratio: float, num_positions: int) -> float:
        """The requested mean of N; where it is left to the MQ-VAE, by the MQ-VAE's `mask_ratio`."""
        ratio = mask_ratio if self.mask_ratio is None else self.mask_ratio
        return (1 - ratio) * num_positions

    def allowed(self, num_positions: int) -> list[int]:
        """The numbers of cells that an image can be given, of kind quality or rate, ascending; the last is L."""
        first, step = fewest_cells(num_positions), self.multiple_of
        multiples = range(-(-first // step) * step, num_positions, step)
        return [*multiples, num_positions]

    def check_cells(self, where: str, mask_ratio: float, num_positions: int) -> None:
        """Check that images can be given so few cells.

        Args:
            where: the section's name, for errors.
            mask_ratio: the MQ-VAE's.
            num_positions: L.

        Raises:
            UserError: no image can, or not on the mean.
        """
        from models.mqvae.masker import num_kept

        ratio = mask_ratio if self.mask_ratio is None else self.mask_ratio
        kept, mean = num_kept(ratio, num_positions), self.mean_kept(mask_ratio, num_positions)
        if self.kind == "fixed" and kept < 1:
            raise UserError(
                f"{where}.mask_ratio {ratio} keeps N = {kept} of L = {num_positions} cells; expected N ≥ 1"
            )
        fewest = self.allowed(num_positions)[0]
        if self.kind == "rate" and mean < fewest:
            most = math.floor(1000 * (1 - fewest / num_positions)) / 1000
            raise UserError(
                f"{where}.mask_ratio ({ratio}) asks for {mean:.3g} of "
                f"L = {num_positions} cells on the mean, and each image is given at least {fewest}: expected mask_ratio ≤ {most}"
            )


def fewest_cells(num_positions: int) -> int:
    """The number of cells below which no image is tried, of kind quality or rate: 1 / 32 of L, at least one."""
    return max(1, round(FIRST_RUNG * num_positions))


class TokenizeSettings(Section):
    """Settings of the stage tokenize."""

    SECTION = "tokenize"
    batch: PositiveInt = Field(description="images per forward pass")
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="precision of the MQ-VAE: fp32, or bf16 (autocast)"
    )
    compile: bool = Field(
        default=False,
        description="compile the MQ-VAE: 2.6 × the images per second on a GPU, after half a minute",
    )
    block: PositiveInt = Field(description="images per block of the token shards")
    augmentations: list[Augmentation] = Field(
        description="versions of each training image to tokenize; the first must be the image itself",
        min_length=1,
    )
    text_vocab: NonNegativeInt = Field(
        description="size of the BPE vocabulary for captions; 0 stores no captions", le=65535
    )
    text_length: NonNegativeInt = Field(description="BPE codes per caption; longer captions are cut")
    budget: Budget = Budget()
    lpips: LPIPSConfig = LPIPSConfig("none", None, None)
    seed: Seed = Field(description="seed of random masks (mqvae.model.mask: random)")

    def weights(self) -> list[Path]:
        """The weights of LPIPS."""
        return self.lpips.files()

    def check(self, where: str, compute: Compute) -> None:
        """The first version is the image itself; captions need a length, and a perceptual budget a network."""
        if self.augmentations[0].flip:
            raise UserError(
                f"{where}.augmentations starts with a flipped version; expected {{flip: false}} first"
            )
        if bool(self.text_vocab) != bool(self.text_length):
            raise UserError(
                f"{where}.text_vocab is {self.text_vocab} and text_length {self.text_length}; expected both 0 or both > 0"
            )
        if self.budget.by == "lpips" and self.lpips.network == "none":
            asked = "gain is lpips" if self.budget.kind == "rate" else f"distance is {self.budget.distance}"
            raise UserError(
                f"{where}.budget.{asked} and tokenize.lpips.network none; expected squeezenet or vgg, which measure it"
            )
