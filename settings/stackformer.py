"""Section `stackformer`: stage 2."""

from typing import Literal

from pydantic import Field, NonNegativeFloat

from models.stackformer import Condition, NetworkConfig
from settings.training import TrainingSettings
from workspace.errors import UserError
from workspace.settings import Compute


class StackformerSettings(TrainingSettings):
    """Settings of the stage train_stackformer."""

    SECTION = "stackformer"
    BEST_BY, HIGHEST = "nats_per_image", False
    weight_decay: NonNegativeFloat = Field(
        description="weight decay of linear layers; norms, biases and embeddings have none"
    )
    condition: Condition = Field(description="what generation is conditioned on: none, class or text")
    cfg_dropout: NonNegativeFloat = Field(
        description="share of samples whose condition is dropped, for classifier-free guidance", lt=1
    )
    parallel: Literal["ddp", "fsdp"] = Field(
        default="ddp",
        description="with several workers each has the whole model (ddp), or a part of each weight, gradient and moment (fsdp)",
    )
    activation_checkpointing: bool = Field(
        default=False,
        description="compute each block's activations again in the backward pass instead of keeping them: less memory, a "
        "third more time",
    )
    model: NetworkConfig

    def check(self, where: str, compute: Compute) -> None:
        """The checks of every training; also that an unconditional model drops no condition."""
        super().check(where, compute)
        if self.condition == "none" and self.cfg_dropout:
            raise UserError(f"{where}.cfg_dropout is {self.cfg_dropout}; expected 0 when condition is none")
        if self.parallel == "fsdp" and self.optimizer == "muon":
            raise UserError(
                f"{where}.parallel is fsdp and optimizer is muon, which needs whole matrices; set optimizer: adamw, or "
                "parallel: ddp"
            )
        if self.parallel == "fsdp" and self.watches_best:
            raise UserError(
                f"{where}.parallel is fsdp, which keeps the last weights; set keep: last and patience: null, or parallel: ddp"
            )
