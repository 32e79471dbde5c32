"""Pictures of images: grids, importance heat maps, the paper's Figure 4 (input, importance, kept, result).

Shapes: n images of H × W pixels, a grid of h × w cells (L = h·w, raster order), N kept cells. Cells are drawn as blocks of pixels
and never smoothed, because the model decides per cell.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
Floats = NDArray[np.floating]
Integers = NDArray[np.integer]
Value = TypeVar("Value", bound=np.generic)

PAPER = (255, 255, 255)
INK = (55, 58, 64)
GAP = 6
MARGIN = 12
TEXT = 12
FADED, FOG = 0.2, 122
"""Share of its grey picture in a masked cell, blended with a flat grey, which differs from dark and bright cells."""
HEAT = 0.62
"""Share of the heat map over the grey input."""
PANEL = 128
"""Approximate pixels per side to which `figure4` enlarges small images."""
COLUMNS = ("input", "importance", "kept", "reconstruction")

_MAGMA = "000004 140e36 3b0f70 641a80 8c2981 b73779 de4968 f7705c fe9f6d fecf92 fcfdbf"
"""Eleven evenly spaced colours of matplotlib's magma, with even steps in lightness from dark to light."""


def colour_table() -> NDArray[np.float64]:
    """The colour map's anchors, float64 [11, 3] in 0 … 255, evenly spaced over 0 … 1."""
    return np.array([list(bytes.fromhex(colour)) for colour in _MAGMA.split()], dtype=np.float64)


def heat_map(scores_L: Floats, grid: tuple[int, int], size: tuple[int, int]) -> Pixels:
    """Colours of the scores, uint8 [H, W, 3]: the lowest score is darkest, the highest lightest.

    Args:
        scores_L: finite scores; stretched to 0 … 1, so only their relative differences are visible.
        grid: (h, w).
        size: (H, W) in pixels.

    Raises:
        ValueError: scores_L does not have h·w entries.
    """
    if scores_L.shape != (grid[0] * grid[1],):
        raise ValueError(
            f"scores_L has shape {scores_L.shape}, expected ({grid[0] * grid[1]},) for a grid {grid}"
        )
    low, high = float(scores_L.min()), float(scores_L.max())
    share = (scores_L.astype(np.float64) - low) / (high - low) if high > low else np.zeros(scores_L.shape)
    table = colour_table()
    places = np.linspace(0, 1, len(table))
    colours = np.stack([np.interp(share, places, table[:, channel]) for channel in range(3)], axis=-1)
    return _over_pixels(np.rint(colours).astype(np.uint8).reshape(*grid, 3), size)


def kept_cells(image: Pixels, kept_N: Integers, grid: tuple[int, int]) -> Pixels:
    """The image with every masked cell faded to grey; pixels of kept cells are unchanged. uint8 [H, W, 3].

    Raises:
        ValueError: a position outside the grid.
    """
    if kept_N.size and (kept_N.min() < 0 or kept_N.max() >= grid[0] * grid[1]):
        raise ValueError(f"positions {kept_N.min()} … {kept_N.max()} are not in a grid {grid}")
    kept_L = np.zeros(grid[0] * grid[1], dtype=bool)
    kept_L[kept_N] = True
    shown = _over_pixels(kept_L.reshape(grid), (image.shape[0], image.shape[1]))
    faded = np.rint(FADED * _grey(image) + (1 - FADED) * FOG).astype(np.uint8)
    return np.where(shown[..., None], image, faded)


def importance(image: Pixels, scores_L: Floats, grid: tuple[int, int]) -> Pixels:
    """The scores' heat map over the grey image, uint8 [H, W, 3]."""
    heat = heat_map(scores_L, grid, (image.shape[0], image.shape[1]))
    blend: Floats = np.rint(HEAT * heat + (1 - HEAT) * _grey(image))
    return blend.clip(0, 255).astype(np.uint8)


def image_grid(images: Pixels, columns: int, scale: int, labels: Sequence[str] | None) -> Image.Image:
    """Images in rows, each pixel enlarged to scale × scale, with a label under each if labels are given.

    Args:
        images: uint8 [n, H, W, 3], n ≥ 1.
        columns: images per row, ≥ 1.
        scale: whole-number enlargement, ≥ 1.
        labels: one per image, truncated to the image's width; or None.

    Raises:
        ValueError: no images, or a different number of labels.
    """
    count, height, width, _ = images.shape
    if count == 0:
        raise ValueError("a grid of no images: expected at least one")
    if labels is not None and len(labels) != count:
        raise ValueError(f"{len(labels)} labels for {count} images")
    below = TEXT + 6 if labels is not None else 0
    columns = min(columns, count)
    rows = -(-count // columns)
    step_x, step_y = width * scale + GAP, height * scale + below + GAP
    page = Image.new("RGB", (2 * MARGIN + columns * step_x - GAP, 2 * MARGIN + rows * step_y - GAP), PAPER)
    draw = ImageDraw.Draw(page)
    for index, image in enumerate(images):
        x, y = MARGIN + index % columns * step_x, MARGIN + index // columns * step_y
        page.paste(_enlarged(image, scale), (x, y))
        if labels is not None:
            _caption(draw, labels[index], x, y + height * scale + 3, width * scale)
    return page


def figure4(
    inputs: Pixels, scores: Floats, kept: Integers, reconstructions: Pixels, grid: tuple[int, int]
) -> Image.Image:
    """One row per image, as in the paper's Figure 4: input | importance | kept | reconstruction, captioned.

    Args:
        inputs: uint8 [n, H, W, 3].
        scores: importance of each cell, [n, L].
        kept: positions of the kept cells, [n, N].
        reconstructions: uint8 [n, H, W, 3].
        grid: (h, w).

    Raises:
        ValueError: n = 0, or the arrays do not fit together or do not fit the grid.
    """
    counts = {len(inputs), len(scores), len(kept), len(reconstructions)}
    if len(counts) != 1 or 0 in counts or inputs.shape != reconstructions.shape:
        shapes = ", ".join(str(array.shape) for array in (inputs, scores, kept, reconstructions))
        raise ValueError(f"arrays of shapes {shapes} do not fit each other; expected the same n ≥ 1 images")
    panels = np.stack(
        [
            panel
            for image, scores_L, kept_N, result in zip(inputs, scores, kept, reconstructions, strict=True)
            for panel in (image, importance(image, scores_L, grid), kept_cells(image, kept_N, grid), result)
        ]
    )
    height, width = inputs.shape[1:3]
    scale = max(1, round(PANEL / max(height, width)))
    body = image_grid(panels, len(COLUMNS), scale, None)
    head = TEXT + 6
    page = Image.new("RGB", (body.width, body.height + head), PAPER)
    page.paste(body, (0, head))
    draw = ImageDraw.Draw(page)
    for column, name in enumerate(COLUMNS):
        _caption(draw, name, MARGIN + column * (width * scale + GAP), MARGIN - 2, width * scale)
    return page


def _grey(image: Pixels) -> NDArray[np.float64]:
    """Luma, [H, W, 1] in 0 … 255."""
    luma: NDArray[np.float64] = image @ np.array([0.299, 0.587, 0.114])
    return luma[..., None]


def _over_pixels(cells: NDArray[Value], size: tuple[int, int]) -> NDArray[Value]:
    """Repeat each cell's value over its pixels: [h, w, …] → [H, W, …]."""
    rows = np.arange(size[0]) * cells.shape[0] // size[0]
    columns = np.arange(size[1]) * cells.shape[1] // size[1]
    spread: NDArray[Value] = cells[rows[:, None], columns[None, :]]
    return spread


def _enlarged(image: Pixels, scale: int) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image.repeat(scale, axis=0).repeat(scale, axis=1)))


def _caption(draw: ImageDraw.ImageDraw, text: str, x: int, y: int, width: int) -> None:
    """Write one line, truncated with an ellipsis to `width` pixels."""
    font = ImageFont.load_default(TEXT)
    line = " ".join(text.split())
    while line and draw.textlength(line, font=font) > width:
        line = line[:-2].rstrip() + "…" if len(line) > 2 else ""
    draw.text((x, y), line, fill=INK, font=font)
