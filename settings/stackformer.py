"""Section `stackformer`: stage 2."""

from pydantic import Field, NonNegativeFloat

from models.stackformer import Condition, NetworkConfig
from settings.training import TrainingSettings
from workspace.errors import UserError
from workspace.settings import Compute


class StackformerSettings(TrainingSettings):
    """Of the stage train_stackformer."""

    SECTION = "stackformer"
    weight_decay: NonNegativeFloat = Field(description="of linear maps; norms, biases, embeddings have none")
    condition: Condition = Field(description="what an image is asked for by: none, class or text")
    cfg_dropout: NonNegativeFloat = Field(
        description="share of samples that learn without it, for guidance", lt=1
    )
    model: NetworkConfig

    def check(self, where: str, compute: Compute) -> None:
        """As every training; and where there is no condition, none is dropped."""
        super().check(where, compute)
        if self.condition == "none" and self.cfg_dropout:
            raise UserError(f"{where}.cfg_dropout is {self.cfg_dropout}; expected 0 where condition is none")
