"""The region to keep or to draw again: a mask, a box or a half → cells of the grid.

Shapes: S pixels a side of the model's square pictures, L cells.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from settings.sample import REGION, box_of
from shards.images.opening import NO_IMAGE, opened
from shards.making.pictures import ORIENTATION, TURNS, Encoding, encode_image, square
from workspace.errors import UserError

EDGES = {
    "upper": (0.0, 0.0, 1.0, 0.5),
    "lower": (0.0, 0.5, 1.0, 1.0),
    "left": (0.0, 0.0, 0.5, 1.0),
    "right": (0.5, 0.0, 1.0, 1.0),
}
"""Halves → left, upper, right and lower edge as shares of the sides."""
SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""


@dataclass(frozen=True)
class Region:
    """A part of a picture, as it is typed.

    Attributes:
        option: keep or redraw.
        text: a mask's path, X0,Y0,X1,Y1 in pixels, or a half (`settings.sample.REGION`).
    """

    option: str
    text: str

    @property
    def mask(self) -> Path | None:
        """The mask's file, where it is one."""
        return None if self.text in EDGES or box_of(self.text) else Path(self.text)

    def pixels(self, size: tuple[int, int], name: str) -> Image.Image:
        """White in the region, black elsewhere: a grey picture of this width and height.

        Raises:
            UserError: a mask of another size, or none; a box that is empty or not inside.
        """
        width, height = size
        if self.mask is not None:
            return self._read(self.mask, size, name)
        left, upper, right, lower = box_of(self.text) or (
            round(share * side) for share, side in zip(EDGES[self.text], (width, height) * 2, strict=True)
        )
        if not (0 <= left < right <= width and 0 <= upper < lower <= height):
            raise UserError(
                f"sample.{self.option}: the box {self.text} does not fit {name}, {width} × {height} pixels: expected "
                f"0 ≤ X0 < X1 ≤ {width}, 0 ≤ Y0 < Y1 ≤ {height}"
            )
        made = Image.new("L", size)
        made.paste(255, (left, upper, right, lower))
        return made

    def _read(self, path: Path, size: tuple[int, int], name: str) -> Image.Image:
        try:
            mask = opened(path.read_bytes()).convert("L")
        except NO_IMAGE as error:
            raise UserError(
                f"sample.{self.option}: {path} is not an image ({error}); expected {REGION}"
            ) from error
        if mask.size != size:
            raise UserError(
                f"sample.{self.option}: the mask {path} has {mask.width} × {mask.height} pixels, {name} {size[0]} × {size[1]}; "
                "expected a mask of the same size"
            )
        return mask


@dataclass(frozen=True)
class Edit:
    """A picture and what of it is drawn again.

    Attributes:
        name: of its file.
        image: uint8 [S, S, 3].
        again_L: bool, the cells that are drawn again: those of which any pixel is.
    """

    name: str
    image: NDArray[np.uint8]
    again_L: NDArray[np.bool_]


def read_edit(path: Path, region: Region, size: int, grid: int) -> Edit:
    """Read a picture, brought to the model's size as `shard` does, its region with it.

    Args:
        path: any picture.
        region: of the picture as it is seen, upright.
        size: S.
        grid: cells per side.

    Raises:
        UserError: no picture, a region that does not fit it, or one that leaves nothing to draw again.
    """
    data = path.read_bytes()
    try:
        image = opened(data)
        turn = image.getexif().get(ORIENTATION, 1)
        upright = image.size[::-1] if turn in SIDEWAYS and turn in TURNS else image.size
        stored = Image.open(io.BytesIO(encode_image(data, Encoding(size, "png", 95)))).convert("RGB")
    except NO_IMAGE as error:
        raise UserError(f"sample.edit: {path} is not an image ({error})") from error
    region_of = square(region.pixels(upright, str(path)), size, Image.Resampling.BOX, upright)
    inside = np.asarray(region_of) >= 128
    again = inside if region.option == "redraw" else ~inside
    side = size // grid
    again_L = again.reshape(grid, side, grid, side).any(axis=(1, 3)).ravel()
    if not again_L.any():
        raise UserError(
            f"sample.{region.option} {region.text} leaves nothing of {path} to draw again: choose a "
            f"{'smaller' if region.option == 'keep' else 'larger'} region"
        )
    return Edit(path.name, np.array(stored), again_L)  # a copy: torch takes no read-only array
