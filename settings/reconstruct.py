"""Section `reconstruct`: images through the MQ-VAE and back."""

from typing import Literal

from pydantic import Field, PositiveInt

from evaluation.features.reference import Split
from evaluation.perceptual.lpips import LPIPSConfig
from workspace.exact.seeds import Seed
from workspace.settings import Section, Sha256


class ReconstructSettings(Section):
    """Of the stage reconstruct."""

    SECTION = "reconstruct"
    batch: PositiveInt = Field(description="images per forward pass")
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="of the MQ-VAE: fp32, or bf16 (autocast)"
    )
    split: Split = Field(description="which images to reconstruct")
    examples: PositiveInt = Field(description="images kept as pictures")
    seed: Seed = Field(description="of the draw of examples, of random masks, of resamples")
    lpips: LPIPSConfig
    torchscript_sha256: Sha256 | None = Field(
        description="of the Inception that the reference carries: the same as reference.torchscript_sha256"
    )
