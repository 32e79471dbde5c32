"""Section `mqvae`: stage 1."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from evaluation.perceptual.lpips import LPIPSConfig
from models.base.precision import ChannelsLast
from models.mqvae import MQVAEConfig
from settings.training import TrainingSettings
from shards.images import ImageShards
from shards.mixture.images import MOST_SETS, Mixture
from workspace.errors import UserError
from workspace.settings import Compute


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms, and the discriminator; a weight of 0 switches a term off.

    Attributes:
        l1: weight of the mean absolute pixel error (≥ 0).
        l2: weight of the mean squared pixel error (≥ 0).
        perceptual: weight of the perceptual distance (LPIPS) (≥ 0).
        perceptual_scale: before that distance each image and its reconstruction are enlarged by this factor, and a random part,
            of the image's own size and the same of both, is compared; 1 compares them whole as they are (≥ 1).
        perceptual_shift: both are also moved alike, by 0 … this many pixels (enlarged ones) down and right, at random: with
            f - 1 the distance sees every place of a cell alike; 0 moves nothing (≥ 0).
        adversarial: weight of the hinge loss, multiplied by the adaptive weight (≥ 0).
        adaptive_max: upper limit of the adaptive weight (≥ 0).
        discriminator_start: step at which adversarial training starts (≥ 0).
        discriminator_ramp: steps over which its weight then grows from 0 to full (≥ 1).
        discriminator_channels: channels of the discriminator's first layer (≥ 1).
        discriminator_layers: strided convolutions of the discriminator (≥ 1).
        discriminator_learning_rate: the discriminator's peak learning rate, with the generator's schedule and clipping (> 0).
        distillation: weight of the loss that teaches the scorer what leaving a kept cell out costs
            (training/mqvae/distillation.py; not in the paper), with mask adaptive and kept fixed (≥ 0).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    l1: float
    l2: float
    perceptual: float
    adversarial: float
    adaptive_max: float
    discriminator_start: int
    discriminator_ramp: int
    discriminator_channels: int
    discriminator_layers: int
    discriminator_learning_rate: float
    distillation: float = 0.0
    perceptual_scale: int = 1
    perceptual_shift: int = 0

    def __post_init__(self) -> None:
        for name in (
            "l1",
            "l2",
            "perceptual",
            "adversarial",
            "adaptive_max",
            "discriminator_start",
            "distillation",
            "perceptual_shift",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected ≥ 0")
        for name in (
            "perceptual_scale",
            "discriminator_ramp",
            "discriminator_channels",
            "discriminator_layers",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected ≥ 1")
        if not self.discriminator_learning_rate > 0:
            raise ValueError(
                f"discriminator_learning_rate is {self.discriminator_learning_rate}, expected > 0"
            )
        if self.l1 + self.l2 + self.perceptual == 0:
            raise ValueError("l1, l2 and perceptual are all 0; expected a weight > 0 in one of them")


@dataclass(frozen=True)
class ExplorationConfig:
    """Noise on the ranking of cells early in training (not in the paper; `noise: 0` is the paper's ranking).

    All times are optimiser steps, like warm-up and the discriminator's start, so that a run continued for more steps never
    returns to a finished phase.

    Attributes:
        noise: weight of standard normal noise added to the scores' logits, which are divided by their standard deviation
            within the image; 0 switches all of this off, including freezing (≥ 0).
        anneal_start: step up to which the noise is full (≥ 0).
        anneal_end: step from which there is no noise, at least `anneal_start`; linear in between (≥ 0).
        freeze_start: step from which the scores get no gradient; null never freezes them (≥ 0).
        distribution: of the noise: normal, or gumbel, with which the N best are a sample without replacement.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    noise: float
    anneal_start: int
    anneal_end: int
    freeze_start: int | None
    distribution: Literal["normal", "gumbel"] = "normal"

    def __post_init__(self) -> None:
        if self.noise < 0:
            raise ValueError(f"noise is {self.noise}, expected ≥ 0")
        if not 0 <= self.anneal_start <= self.anneal_end:
            raise ValueError(
                f"anneal_start is {self.anneal_start} and anneal_end {self.anneal_end}, expected 0 ≤ anneal_start ≤ anneal_end"
            )
        if self.freeze_start is not None and self.freeze_start < 0:
            raise ValueError(f"freeze_start is {self.freeze_start}, expected ≥ 0, or null (never)")


@dataclass(frozen=True)
class SetConfig:
    """One of several sets of images to train on.

    Attributes:
        shards: folder of image shards; null: the workflow's own.
        weight: how often it is read, in proportion to the others' (> 0).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    shards: Path | None
    weight: float

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ValueError(
                f"weight is {self.weight}, expected a number > 0; leave a set out of sources to not read it"
            )

    def absolute(self) -> "SetConfig":
        """The same for workers with another working folder."""
        return self if self.shards is None else replace(self, shards=self.shards.absolute())


class MQVAESettings(TrainingSettings):
    """Settings of the stage train_mqvae."""

    SECTION = "mqvae"
    BEST_BY, HIGHEST = "psnr", True
    channels_last: ChannelsLast = Field(
        description="memory format of the convolutions; auto picks the faster one for the device"
    )
    flip: bool = Field(description="flip images left to right at random")
    sources: list[SetConfig] = Field(
        default=[],
        description="sets of images to train on, a folder and a weight each: [{shards: null, weight: 3}, {shards: data/web, "
        "weight: 1}], null for the workflow's own; empty: that one alone. Validation images are the workflow's own",
    )
    quantize_start: NonNegativeInt = Field(
        description="first step with quantisation; before it, features pass through unquantised"
    )
    kept_power: NonNegativeFloat = Field(
        default=1.0,
        le=16,
        description="of model.kept any: N is drawn in proportion to N to this power; 0 is uniform, and few cells, whose errors "
        "are large, then decide what codes learn",
    )
    kept_draws: PositiveInt = Field(
        default=3,
        le=64,
        description="of model.kept any: numbers N of each image in a step, spread over all; the encoder runs once for all of "
        "them, the decoder once for each",
    )
    publish_discriminator: bool = Field(
        default=False,
        description="write the discriminator beside the model, so that another training can start from both",
    )
    perceptual: LPIPSConfig
    perceptual_precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="precision of the perceptual loss's convolutions"
    )
    loss: LossConfig
    exploration: ExplorationConfig
    model: MQVAEConfig

    def weights(self) -> list[Path]:
        """The weights to start from, and the perceptual loss's."""
        return [*super().weights(), *self.perceptual.files()]

    def folders(self) -> list[Path]:
        """The folders of the sets to train on, but for the workflow's own.

        Raises:
            UserError: one is missing.
        """
        folders = [(number, one.shards) for number, one in enumerate(self.sources) if one.shards is not None]
        for number, folder in folders:
            if not folder.is_dir():
                raise UserError(
                    f"mqvae.sources[{number}].shards is {folder}, which is not a folder; expected image shards, as `shard` "
                    "writes them"
                )
        return [folder for _, folder in folders]

    def absolute(self) -> "MQVAESettings":
        """The same for workers with another working folder."""
        sources = [one.absolute() for one in self.sources]
        return self.replaced(perceptual=self.perceptual.absolute(), sources=sources)

    def images(self, own: ImageShards) -> Mixture:
        """The sets to train on, or the workflow's own alone; UserError if one does not fit."""
        named = [
            (f"mqvae.sources[{number}].shards", one.shards or own.folder, one.weight)
            for number, one in enumerate(self.sources)
        ]
        return Mixture.chosen(own, named)

    def check(self, where: str, compute: Compute) -> None:
        """The checks of every training; also that quantisation starts within the run and a perceptual weight has a network."""
        super().check(where, compute)
        self._check_codebook(where)
        self._check_sources(where)
        self._check_distillation(where)
        if self.quantize_start >= self.steps:
            raise UserError(
                f"{where}.quantize_start is {self.quantize_start}, expected less than steps {self.steps}"
            )
        if self.publish_discriminator and not self.loss.adversarial:
            raise UserError(
                f"{where}.publish_discriminator is true and loss.adversarial 0: there is none; expected false, or a weight > 0"
            )
        if bool(self.loss.perceptual) != (self.perceptual.network != "none"):
            raise UserError(
                f"{where}.loss.perceptual is {self.loss.perceptual} and mqvae.perceptual.network is "
                f"{self.perceptual.network}; expected a weight > 0 with a network, or 0 with none"
            )
        if self.loss.perceptual_shift >= self.model.image_size:
            raise UserError(
                f"{where}.loss.perceptual_shift is {self.loss.perceptual_shift} and model.image_size {self.model.image_size}; "
                "expected fewer pixels than the image has, or 0"
            )

    def _check_codebook(self, where: str) -> None:
        """An EMA codebook starts from a batch's features, or from weights that have one."""
        if self.model.quantizer.kind == "ema" and self.quantize_start == 0 and self.init_from is None:
            raise UserError(
                f"{where}.quantize_start is 0; an EMA codebook starts from a batch's features: expected ≥ 1, or weights with "
                "a codebook in init_from"
            )

    def _check_distillation(self, where: str) -> None:
        """Leaving a cell out needs a scorer to teach, and two cells at least."""
        model = self.model
        if self.loss.distillation and (
            model.mask != "adaptive" or model.kept != "fixed" or model.num_kept < 2
        ):
            raise UserError(
                f"{where}.loss.distillation is {self.loss.distillation} with mask {model.mask}, kept {model.kept} and "
                f"N = {model.num_kept}; expected mask adaptive, kept fixed and N ≥ 2, or distillation 0"
            )

    def _check_sources(self, where: str) -> None:
        if len(self.sources) > MOST_SETS:
            raise UserError(f"{where}.sources has {len(self.sources)} sets; expected at most {MOST_SETS}")
        places = [None if one.shards is None else one.shards.resolve() for one in self.sources]
        twice = next((number for number, place in enumerate(places) if place in places[:number]), None)
        if twice is not None:
            name = self.sources[twice].shards or "null, the workflow's own set,"
            raise UserError(
                f"{where}.sources[{twice}].shards is {name} as sources[{places.index(places[twice])}] is; expected each set "
                "once, with the sum of their weights"
            )
