"""Laws of the court's picture: rows of equal images, a masked chooser with its cells."""

import base64
import io

import numpy as np
from PIL import Image

from experiments.court_picture import SHOWN, page_of, pixels


def test_a_data_uri_gives_its_pixels_back_and_rows_lie_below_each_other() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    made = io.BytesIO()
    Image.fromarray(image).save(made, "png")
    assert (pixels(f"data:image/png;base64,{base64.b64encode(made.getvalue()).decode()}") == image).all()
    row = np.stack([image] * SHOWN)
    one, two = page_of([("a", row)]), page_of([("a", row), ("b", np.concatenate([row, row]))])
    assert one.width == two.width and two.height > 2 * one.height
