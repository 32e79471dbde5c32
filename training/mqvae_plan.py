"""How an MQ-VAE is trained, as plain values: weights of the loss terms, exploration, optimiser, precision."""

from dataclasses import dataclass, field
from typing import ClassVar

from training.optimizers import MuonConfig, OptimizerKind
from training.precision import ChannelsLast, Precision


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


@dataclass(frozen=True)
class MQVAETraining:
    """How an MQ-VAE is trained; see params.yaml for what each is in the demo.

    Attributes:
        steps: length of the run, for the schedules.
        seed: of everything random.
        learning_rate, warmup_steps, final_rate: peak, warm-up, and the share of the peak at the end.
        beta1, beta2: of Adam.
        clip: highest gradient norm; 0 does not clip.
        ema_decay: of the published weights.
        precision: fp32, tf32, bf16 (autocast) or float64.
        channels_last: memory format of the convolutions; auto is the device's faster one.
        compile: run the model through torch.compile.
        quantize_from: step before which features pass through unquantised.
        loss: weights of the terms.
        exploration: noise on the ranking.
        optimizer: adamw (here without decay) for all weights, or muon for matrices and convolutions and Adam for the rest.
        muon: its rates.
    """

    steps: int
    seed: int
    learning_rate: float
    warmup_steps: int
    final_rate: float
    beta1: float
    beta2: float
    clip: float
    ema_decay: float
    precision: Precision
    channels_last: ChannelsLast
    compile: bool
    quantize_from: int
    loss: LossConfig
    exploration: ExplorationConfig
    optimizer: OptimizerKind = "adamw"
    muon: MuonConfig = field(default_factory=MuonConfig)
