"""Section `report`: the page."""

from pydantic import Field, PositiveInt

from workspace.settings import Section


class ReportSettings(Section):
    """Settings of the stage report."""

    SECTION = "report"
    title: str = Field(description="title of the page")
    samples: PositiveInt = Field(description="generated images shown, at most")
    examples: PositiveInt = Field(description="reconstructions shown, at most")
