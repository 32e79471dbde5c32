"""Section `shapes`: the built-in data set."""

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from workspace.errors import UserError
from workspace.exact.seeds import Seed
from workspace.settings import Compute, Section


class ShapesSettings(Section):
    """Settings of the stage draw_shapes."""

    SECTION = "shapes"
    seed: Seed = Field(description="seed of every image")
    image_size: PositiveInt = Field(description="pixels per side")
    train: PositiveInt = Field(description="training images")
    val: PositiveInt = Field(description="validation images")
    radius: tuple[PositiveFloat, PositiveFloat] = Field(
        description="smallest and largest radius of the object, as shares of the side"
    )
    texture_contrast: NonNegativeFloat = Field(
        description="contrast of textured backgrounds, as a share of the full contrast", le=1
    )
    rotation: NonNegativeFloat = Field(description="largest rotation in either direction, in degrees", le=180)

    def check(self, where: str, compute: Compute) -> None:
        """The radius must leave room for the object."""
        low, high = self.radius
        if not low <= high < 0.5:
            raise UserError(f"{where}.radius is [{low}, {high}]; expected smallest ≤ largest < 0.5")
