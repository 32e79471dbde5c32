"""Settings shared by both trainings: their sections of params.yaml inherit them, and the training loop reads them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from models.base.precision import Precision
from workspace.errors import UserError
from workspace.exact.seeds import Seed
from workspace.settings import Compute, Section

OptimizerKind = Literal["adamw", "muon"]
MOST_ITERATIONS = 5
"""Number of polynomials that Muon has."""


@dataclass(frozen=True)
class MuonConfig:
    """Settings of Muon, used if `optimizer` is muon.

    Attributes:
        learning_rate: peak learning rate of the matrices; its schedule has the same shape as the other weights' (> 0).
        momentum: Nesterov momentum of the gradients (0 ≤ x < 1).
        weight_decay: decoupled weight decay of the matrices (≥ 0).
        iterations: Newton-Schulz iterations (≥ 1, ≤ 5).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    learning_rate: float = 0.02
    momentum: float = 0.95
    weight_decay: float = 0.0
    iterations: int = 5

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}, expected > 0")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}, expected 0 ≤ momentum < 1")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay is {self.weight_decay}, expected ≥ 0")
        if not 1 <= self.iterations <= MOST_ITERATIONS:
            raise ValueError(f"iterations is {self.iterations}, expected 1 … {MOST_ITERATIONS}")


class TrainingSettings(Section):
    """Length, optimiser, batch sizes, precision, and how often to log, validate and checkpoint."""

    steps: PositiveInt = Field(description="optimiser steps")
    learning_rate: PositiveFloat = Field(description="peak learning rate (Adam)")
    seed: Seed = Field(description="seed of everything random: initial weights, data order, noise, dropout")
    global_batch: PositiveInt = Field(description="images per step, over all workers")
    micro_batch: PositiveInt = Field(description="images per forward pass; divides global_batch")
    optimizer: OptimizerKind = Field(
        default="adamw",
        description="adamw; or muon, which trains the weight matrices, with AdamW for the rest",
    )
    muon: MuonConfig = MuonConfig()
    warmup_steps: NonNegativeInt = Field(description="steps of linear learning-rate warm-up")
    min_lr_ratio: NonNegativeFloat = Field(
        description="final learning rate of the cosine schedule, as a share of the peak", le=1
    )
    beta1: NonNegativeFloat = Field(description="β₁ of Adam", lt=1)
    beta2: NonNegativeFloat = Field(description="β₂ of Adam", lt=1)
    max_grad_norm: NonNegativeFloat = Field(description="gradients are clipped to this norm; 0 does not clip")
    ema_decay: NonNegativeFloat = Field(
        description="decay of the moving average of the weights, which is what is published", lt=1
    )
    precision: Precision = Field(
        description="fp32, tf32 (GPU: matrix products in TF32), bf16 or fp16 (autocast; fp16 scales the loss) or float64"
    )
    max_bad_steps: NonNegativeInt = Field(
        default=10,
        description="steps in a row that are skipped because a loss or a gradient is not finite; one more stops the run",
    )
    compile: bool = Field(description="run the model through torch.compile")
    init_from: Path | None = Field(
        description="folder of a trained model to start from; null starts from random weights"
    )
    init_partial: bool = Field(
        default=False,
        description="take what fits of init_from: another number of classes or codes makes rows new, another grid "
        "interpolates positions",
    )
    freeze: list[str] = Field(
        default=[],
        description="parts that do not learn, by name (encoder, code_transformer.blocks.[0-3]); needs init_from",
    )
    log_every: PositiveInt = Field(description="steps between logged rows of the curves")
    validate_every: PositiveInt = Field(description="steps between validations")
    validate_images: PositiveInt = Field(description="held-out images to validate on")
    checkpoint_every: PositiveInt = Field(description="steps between checkpoints")
    keep: Literal["last", "best"] = Field(
        default="last",
        description="weights that are published: after the last step, or of the best validation",
    )
    patience: PositiveInt | None = Field(
        default=None,
        description="stop after this many validations in a row without improvement; null runs all steps",
    )
    BEST_BY: ClassVar[str]
    """The validation number that says which weights are best."""
    HIGHEST: ClassVar[bool]
    """Whether the highest is best, not the lowest."""

    def is_better(self, numbers: Mapping[str, float], than: float) -> bool:
        """Whether a validation is better than one with this number; NaN is none yet. One that is not finite never is."""
        new = numbers[self.BEST_BY]
        if not math.isfinite(new) or math.isnan(than):
            return math.isfinite(new)
        return new > than if self.HIGHEST else new < than

    @property
    def micro_batches(self) -> int:
        """Micro-batches per step, over all workers."""
        return self.global_batch // self.micro_batch

    def weights(self) -> list[Path]:
        """Trained weights that decide the result besides inputs and settings: those to start from."""
        return [] if self.init_from is None else [self.init_from]

    def due(self, done: int) -> bool:
        """Whether a row of the curves, a validation or a checkpoint is due after `done` steps."""
        every = (self.log_every, self.validate_every, self.checkpoint_every)
        return done == self.steps or any(done % steps == 0 for steps in every)

    @property
    def watches_best(self) -> bool:
        """Whether the best validation so far matters, so that checkpoints hold it."""
        return self.keep == "best" or self.patience is not None

    def validates(self, done: int) -> bool:
        """Whether a validation is due after `done` steps."""
        return done == self.steps or done % self.validate_every == 0

    def keeps(self, done: int) -> bool:
        """Whether a checkpoint is due after `done` steps."""
        return done == self.steps or done % self.checkpoint_every == 0

    def mine(self, rank: int, size: int) -> range:
        """Indices of a step's micro-batches for worker `rank` of `size`; each belongs to exactly one worker.

        Raises:
            UserError: fewer micro-batches than workers.
        """
        self._check_workers(self.SECTION, size)
        return range(rank, self.micro_batches, size)

    def check(self, where: str, compute: Compute) -> None:
        """Check that the weights to start from exist, and that the micro-batches can be divided among the workers."""
        require_folder(self.init_from, f"{where}.init_from")
        for name, given in (("init_partial", self.init_partial), ("freeze", self.freeze)):
            if given and self.init_from is None:
                raise UserError(
                    f"{where}.{name} is {given} and init_from null; expected a folder of weights, or {name} unset"
                )
        if self.global_batch % self.micro_batch:
            raise UserError(
                f"{where}.global_batch {self.global_batch} is not a multiple of micro_batch {self.micro_batch}"
            )
        self._check_workers(where, compute.workers)
        if self.precision == "fp16" and not self.max_bad_steps:
            raise UserError(
                f"{where}.max_bad_steps is 0 and precision is fp16, whose loss scale is found by steps that overflow and are "
                "skipped; expected ≥ 1"
            )

    def _check_workers(self, where: str, workers: int) -> None:
        if self.micro_batches < workers:
            raise UserError(
                f"{where}.global_batch {self.global_batch} / micro_batch {self.micro_batch} = {self.micro_batches} "
                f"micro-batches for {workers} workers; lower compute.workers or micro_batch"
            )


def require_folder(folder: Path | None, setting: str) -> None:
    """Check that a folder exists; None means no folder.

    Raises:
        UserError: it is missing.
    """
    if folder is not None and not folder.is_dir():
        raise UserError(
            f"{setting} is {folder}, which is not a folder; expected one with model.safetensors and config.json (DVC removes a "
            "stage's own artifact before it runs: start from a copy of it elsewhere), or null"
        )
