"""Pictures of a training's validations."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from models.mqvae import MQVAEOutput
from reporting.figures import figure4
from shards.images.pixels import to_uint8


@dataclass(frozen=True)
class Pictures:
    """Draws input, importance, kept cells and reconstruction of the first held-out images at each validation."""

    metrics: Path
    grid: int

    def __call__(self, step: int, image_BCHW: Tensor, output: MQVAEOutput) -> None:
        """Write pictures/step-….png."""
        rows = min(8, len(image_BCHW))
        picture = figure4(
            to_uint8(image_BCHW[:rows].float().cpu().numpy()),
            output.scores_BL[:rows].float().cpu().numpy(),
            output.positions_BN[:rows].cpu().numpy(),
            to_uint8(output.reconstruction_BCHW[:rows].float().cpu().numpy()),
            (self.grid, self.grid),
        )
        target = self.metrics / "pictures" / f"step-{step:07d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        picture.save(target)
