"""Section `sample`: images drawn from both models."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from models.sampling import Truncation
from workspace.errors import UserError
from workspace.exact.seeds import Seed
from workspace.settings import Compute, Section


class SampleSettings(Section):
    """Settings of the stage sample."""

    SECTION = "sample"
    num_images: PositiveInt = Field(description="images to generate")
    batch: PositiveInt = Field(
        description="images drawn at a time (the last batch is padded); lowered if GPU memory is short"
    )
    decode_batch: PositiveInt = Field(
        default=64, description="images decoded at a time; lowered if GPU memory is short"
    )
    samples_per_shard: PositiveInt = Field(
        description="images per tar, a multiple of batch; one tar is one job"
    )
    seed: Seed = Field(description="seed; image i depends only on (seed, i)")
    classes: Literal["all"] | list[str] = Field(
        description="all, or a list of class names; images cycle through them"
    )
    prompts: list[str] | None = Field(description="captions to draw; images cycle through them")
    guidance_scale: NonNegativeFloat = Field(
        description="g in null + g · (conditional - null) on logits; 1 turns guidance off"
    )
    code: Truncation
    position: Truncation
    precision: Literal["fp32", "bf16"] = Field(description="precision of the Stackformer")
    cache: Literal["fp32", "bf16"] = Field(
        default="bf16", description="precision of the key-value cache on a GPU; on a CPU it is fp32"
    )
    decode_precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="precision of the decoder: fp32, or bf16 (autocast)"
    )
    png_files: bool = Field(description="also write each image as a file in png/")

    def check(self, where: str, compute: Compute) -> None:
        """A shard must hold whole batches."""
        if self.samples_per_shard % self.batch:
            raise UserError(
                f"{where}.samples_per_shard {self.samples_per_shard} is not a multiple of batch {self.batch}"
            )
