"""Section `evaluate`: comparing samples with real images."""

from pydantic import Field, PositiveInt

from workspace.exact.seeds import Seed
from workspace.settings import Section, Sha256


class EvaluateSettings(Section):
    """Settings of the stage evaluate."""

    SECTION = "evaluate"
    num_images: PositiveInt | None = Field(
        description="how many samples to score, from the first on; null scores all"
    )
    batch: PositiveInt = Field(description="images per forward pass")
    seed: Seed = Field(description="seed of the subsets for KID, precision and recall, and of the bootstrap")
    torchscript_sha256: Sha256 | None = Field(
        description="SHA-256 of the Inception weights; must equal reference.torchscript_sha256"
    )
