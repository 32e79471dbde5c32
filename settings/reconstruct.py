"""Section `reconstruct`: encoding and decoding images with the MQ-VAE."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from evaluation.features.reference import Split
from evaluation.perceptual.lpips import LPIPSConfig
from workspace.exact.seeds import Seed
from workspace.settings import Section, Sha256


class ReconstructSettings(Section):
    """Settings of the stage reconstruct."""

    SECTION = "reconstruct"
    batch: PositiveInt = Field(description="images per forward pass")
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="precision of the MQ-VAE: fp32, or bf16 (autocast)"
    )
    split: Split = Field(description="split to reconstruct")
    examples: PositiveInt = Field(description="reconstructions kept as images, for the report")
    seed: Seed = Field(description="seed of the choice of examples, of random masks and of the bootstrap")
    lpips: LPIPSConfig
    torchscript_sha256: Sha256 | None = Field(
        description="SHA-256 of the Inception weights; must equal reference.torchscript_sha256"
    )

    def weights(self) -> list[Path]:
        """The weights of LPIPS."""
        return self.lpips.files()
