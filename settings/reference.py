"""Section `reference`: features of the real images that generated ones are scored against."""

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from evaluation.features.efficientnet import require_package
from evaluation.features.extractors import FeaturesName
from evaluation.features.inception import SHA256
from evaluation.features.reference import Split
from evaluation.metrics.statistics import FEWEST, NEIGHBOURS
from workspace.errors import UserError
from workspace.exact.seeds import Seed
from workspace.settings import Compute, Section, Settings, Sha256


class ProxySettings(Settings):
    """The small classifier behind `features: proxy`."""

    width: PositiveInt = Field(description="channels of its first level; features have 4 × width dimensions")
    batch: PositiveInt = Field(description="images per training step")
    steps: PositiveInt = Field(description="training steps")
    learning_rate: PositiveFloat = Field(description="peak learning rate (AdamW)")
    softened: NonNegativeFloat = Field(description="share of training images that are slightly blurred", le=1)


class ReferenceSettings(Section):
    """Settings of the stage reference."""

    SECTION = "reference"
    features: FeaturesName = Field(
        description="proxy (small labelled data), inception (FID), squeezenet, efficientnet_lite0"
    )
    second: Literal["efficientnet_lite0"] | None = Field(
        default=None,
        description="another network whose scores are reported too: efficientnet_lite0; null for none",
    )
    weights: Path | None = Field(
        description="path of the network's weights; null downloads them; must be null for proxy"
    )
    torchscript_sha256: Sha256 | None = Field(
        description="SHA-256 that the Inception weights (TorchScript) must have to be loaded"
    )
    fid_split: Split = Field(description="split of the real images that samples are compared with")
    max_images: PositiveInt | None = Field(
        description="most images per split, chosen by seed; null takes all"
    )
    batch: PositiveInt = Field(description="images per forward pass")
    seed: Seed = Field(description="seed of the proxy's weights and data order, and of the choice of images")
    proxy: ProxySettings

    def network_files(self) -> list[Path]:
        """The weights of the network, where they are a file."""
        return [] if self.weights is None else [self.weights]

    def check(self, where: str, compute: Compute) -> None:
        """Only published networks have weights to name, Inception is named by its SHA-256, packages are installed."""
        if self.second == self.features:
            raise UserError(f"{where}.second is {self.second}, and so is {where}.features; expected null")
        if self.second or (self.features == "efficientnet_lite0" and self.weights is None):
            require_package()
        if self.max_images is not None and self.max_images < FEWEST:
            raise UserError(
                f"{where}.max_images is {self.max_images}, expected ≥ {FEWEST}, or null (precision uses "
                f"each image's {NEIGHBOURS} nearest)"
            )
        if self.features == "proxy" and self.weights is not None:
            raise UserError(
                f"{where}.weights is {self.weights}, but the proxy is trained here; expected null"
            )
        if self.features == "inception" and self.torchscript_sha256 is None:
            raise UserError(
                f"{where}.torchscript_sha256 is null, but Inception's TorchScript is loaded only with a matching SHA-256; "
                f"the published file has {SHA256}"
            )
