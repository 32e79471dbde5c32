"""Section `shapes`: the embedded data set."""

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from workspace.errors import UserError
from workspace.exact.seeds import Seed
from workspace.settings import Compute, Section


class ShapesSettings(Section):
    """Of the stage draw_shapes."""

    SECTION = "shapes"
    seed: Seed = Field(description="of every picture")
    image_size: PositiveInt = Field(description="pixels per side")
    train: PositiveInt = Field(description="training pictures")
    val: PositiveInt = Field(description="validation pictures")
    radius: tuple[PositiveFloat, PositiveFloat] = Field(
        description="smallest and largest, as shares of the side"
    )
    texture_contrast: NonNegativeFloat = Field(
        description="of textured backgrounds, of the full contrast", le=1
    )
    rotation: NonNegativeFloat = Field(description="largest rotation either way, degrees", le=180)

    def check(self, where: str, compute: Compute) -> None:
        """The radius must leave room for the object."""
        low, high = self.radius
        if not low <= high < 0.5:
            raise UserError(f"{where}.radius is [{low}, {high}]; expected smallest ≤ largest < 0.5")
