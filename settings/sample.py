"""Section `sample`: images drawn from both models."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from models.sampling import Truncation
from workspace.errors import UserError
from workspace.exact.seeds import Seed
from workspace.settings import Compute, Section


class SampleSettings(Section):
    """Of the stage sample."""

    SECTION = "sample"
    num_images: PositiveInt = Field(description="how many images to make")
    batch: PositiveInt = Field(
        description="images at a time; the last batch is padded to it; lowered where a GPU has no room"
    )
    decode_batch: PositiveInt = Field(
        default=64, description="images that the decoder takes at a time; lowered likewise"
    )
    samples_per_shard: PositiveInt = Field(
        description="images per tar, a multiple of batch; the unit of work"
    )
    seed: Seed = Field(description="image i's randomness follows from (seed, i)")
    classes: Literal["all"] | list[str] = Field(description="all, or names; images cycle through them")
    prompts: list[str] | None = Field(description="captions; images cycle through them")
    guidance_scale: NonNegativeFloat = Field(
        description="g in null + g · (conditioned - null); 1 is unguided"
    )
    code: Truncation
    position: Truncation
    precision: Literal["fp32", "bf16"] = Field(description="of the Stackformer")
    cache: Literal["fp32", "bf16"] = Field(
        default="bf16", description="of keys and values on a GPU; CPUs keep fp32"
    )
    decode_precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="of the decoder: fp32, or bf16 (autocast)"
    )
    png_files: bool = Field(description="also write each image as a file below png/")

    def check(self, where: str, compute: Compute) -> None:
        """A shard holds whole batches."""
        if self.samples_per_shard % self.batch:
            raise UserError(
                f"{where}.samples_per_shard {self.samples_per_shard} is not a multiple of batch {self.batch}"
            )
