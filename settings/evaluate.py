"""Section `evaluate`: samples against real images."""

from pydantic import Field, PositiveInt

from workspace.exact.seeds import Seed
from workspace.settings import Section, Sha256


class EvaluateSettings(Section):
    """Of the stage evaluate."""

    SECTION = "evaluate"
    num_images: PositiveInt | None = Field(description="score the first so many samples; null takes all")
    batch: PositiveInt = Field(description="images per forward pass")
    seed: Seed = Field(description="of the subsets of KID, precision and recall, and of resamples")
    torchscript_sha256: Sha256 | None = Field(
        description="of the Inception that the reference carries: the same as reference.torchscript_sha256"
    )
