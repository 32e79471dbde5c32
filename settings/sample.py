"""Section `sample`: images drawn from both models."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from models.sampling import Truncation
from workspace.errors import UserError
from workspace.exact.seeds import Seed
from workspace.settings import Compute, Section

HALVES = ("upper", "lower", "left", "right")
REGION = "a mask (an image, white where), a box X0,Y0,X1,Y1 in pixels, upper, lower, left or right"


def box_of(region: str) -> tuple[int, ...] | None:
    """X0, Y0, X1, Y1, where a region is a box."""
    numbers = [word.strip() for word in region.split(",")]
    if len(numbers) != 4 or not all(re.fullmatch(r"-?\d+", word) for word in numbers):
        return None
    return tuple(int(word) for word in numbers)


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
    codes: list[PositiveInt] | None = Field(
        default=None,
        description="[fewest, most] codes of an image, where their number is drawn; null leaves it to the model (each ≥ 1)",
    )
    png_files: bool = Field(description="also write each image as a file in png/")
    edit: str | None = Field(default=None, description="a picture of which a part is drawn again")
    keep: str | None = Field(
        default=None, description="what of it stays: a mask, a box X0,Y0,X1,Y1, or a half such as upper"
    )
    redraw: str | None = Field(
        default=None, description="instead of keep: what of it is drawn again, in the same forms"
    )
    candidates: PositiveInt = Field(
        default=1,
        description="draws of an edit, of which one is taken by the likelihood of what stays; 1 looks only at what is before",
    )

    @property
    def bounds(self) -> tuple[int, int] | None:
        """`codes`, as two numbers."""
        return None if self.codes is None else (self.codes[0], self.codes[-1])

    def check(self, where: str, compute: Compute) -> None:
        """A shard must hold whole batches; an edit needs a picture and one region of it."""
        if self.codes is not None and (len(self.codes) != 2 or self.codes[0] > self.codes[1]):
            raise UserError(
                f"{where}.codes is {self.codes}; expected the fewest and the most codes, [24, 48]"
            )
        if self.samples_per_shard % self.batch:
            raise UserError(
                f"{where}.samples_per_shard {self.samples_per_shard} is not a multiple of batch {self.batch}"
            )
        regions = [name for name in ("keep", "redraw") if getattr(self, name) is not None]
        if self.edit is None and (regions or self.candidates > 1):
            raise UserError(
                f"{where}.{[*regions, 'candidates'][0]} is for a picture: name it in {where}.edit"
            )
        if self.edit is not None and len(regions) != 1:
            raise UserError(
                f"{where}.edit is {self.edit}: give {where}.keep (what stays) or {where}.redraw (what is drawn again), not "
                f"{'both' if regions else 'neither'}"
            )
        for name in regions:
            region = getattr(self, name)
            if region not in HALVES and box_of(region) is None and not Path(region).is_file():
                raise UserError(f"{where}.{name} is {region}: expected {REGION}; no file has that name")
