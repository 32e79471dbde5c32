"""Section `report`: the page."""

from pydantic import Field, NonNegativeFloat, PositiveInt

from workspace.settings import Section


class ReportSettings(Section):
    """Settings of the stage report."""

    SECTION = "report"
    title: str = Field(description="title of the page")
    samples: PositiveInt = Field(description="generated images shown, at most")
    examples: PositiveInt = Field(description="reconstructions shown, at most")
    draw_megabytes: NonNegativeFloat = Field(
        default=6.0,
        description="largest size of the models' weights in the page, MB, so that it draws by itself; 0 leaves them out",
    )
