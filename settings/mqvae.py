"""Section `mqvae`: stage 1."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field, NonNegativeInt

from evaluation.lpips import LPIPSConfig
from models.mqvae import MQVAEConfig
from models.precision import ChannelsLast
from settings.training import TrainingSettings
from workspace.errors import UserError
from workspace.settings import Compute


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms and the critic; a weight of 0 switches a term off.

    Attributes:
        l1: of the mean absolute error of pixels (≥ 0).
        l2: of the mean squared error of pixels (≥ 0).
        perceptual: of the perceptual distance (≥ 0).
        adversarial: of the hinge loss, times the adaptive weight (≥ 0).
        adaptive_max: highest adaptive weight (≥ 0).
        disc_start: step from which the critic takes part (≥ 0).
        disc_ramp: steps over which its weight grows to the full (≥ 1).
        disc_channels: width of the critic's first layer (≥ 1).
        disc_layers: the critic's convolutions (≥ 1).
        disc_learning_rate: the critic's peak rate (> 0).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    l1: float
    l2: float
    perceptual: float
    adversarial: float
    adaptive_max: float
    disc_start: int
    disc_ramp: int
    disc_channels: int
    disc_layers: int
    disc_learning_rate: float

    def __post_init__(self) -> None:
        for name in ("l1", "l2", "perceptual", "adversarial", "adaptive_max", "disc_start"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected ≥ 0")
        for name in ("disc_ramp", "disc_channels", "disc_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected ≥ 1")
        if not self.disc_learning_rate > 0:
            raise ValueError(f"disc_learning_rate is {self.disc_learning_rate}, expected > 0")
        if self.l1 + self.l2 + self.perceptual == 0:
            raise ValueError("l1, l2 and perceptual are all 0; expected a weight > 0 in one of them")


@dataclass(frozen=True)
class ExplorationConfig:
    """Noise on the ranking of cells early in training (not in the paper; `noise: 0` is the paper's ranking).

    Attributes:
        noise: weight of standard normal noise against the scores' logits over their deviation within the image (≥ 0).
        until: share of the run with full noise (≥ 0, ≤ 1).
        gone_by: share of the run by which the noise is annealed to none, at least `until` (≥ 0, ≤ 1).
        freeze_from: share of the run from which the scores get no gradient; 1 never freezes them (≥ 0, ≤ 1).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    noise: float
    until: float
    gone_by: float
    freeze_from: float

    def __post_init__(self) -> None:
        if self.noise < 0:
            raise ValueError(f"noise is {self.noise}, expected ≥ 0")
        if not 0 <= self.until <= self.gone_by <= 1 or not 0 <= self.freeze_from <= 1:
            raise ValueError("expected 0 ≤ until ≤ gone_by ≤ 1 and 0 ≤ freeze_from ≤ 1, shares of the run")


class MQVAESettings(TrainingSettings):
    """Of the stage train_mqvae."""

    SECTION = "mqvae"
    channels_last: ChannelsLast = Field(
        description="memory format of the convolutions; auto: the device's faster one"
    )
    flip: bool = Field(description="flip images left to right at random")
    quantize_from: NonNegativeInt = Field(description="step before which features pass through unquantised")
    perceptual: LPIPSConfig
    perceptual_precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="of the perceptual loss's convolutions"
    )
    loss: LossConfig
    exploration: ExplorationConfig
    model: MQVAEConfig

    def check(self, where: str, compute: Compute) -> None:
        """As every training; and there is something to quantise with, and a network where its distance is asked for."""
        super().check(where, compute)
        if self.quantize_from >= self.steps:
            raise UserError(
                f"{where}.quantize_from is {self.quantize_from}, expected less than steps {self.steps}"
            )
        if self.model.quantizer.kind == "ema" and self.quantize_from == 0:
            raise UserError(
                f"{where}.quantize_from is 0; an EMA codebook starts from a batch's features: expected ≥ 1"
            )
        if bool(self.loss.perceptual) != (self.perceptual.network != "none"):
            raise UserError(
                f"{where}.loss.perceptual is {self.loss.perceptual} and mqvae.perceptual.network is "
                f"{self.perceptual.network}; expected a weight > 0 with a network, or 0 with none"
            )
