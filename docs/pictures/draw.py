"""README's picture, from a finished run of the demo: python docs/pictures/draw.py [--artifacts FOLDER] [--out PNG].

Above, one image on its way: the cells that are kept, their codes and positions, the image made from these. Below, a row for each
class: its first held-out image, and the first new images that were drawn of it. Nothing is picked by hand.
"""

import colorsys
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.mqvae import MQVAE, MQVAEOutput
from reporting.figures import INK, PAPER, importance, kept_cells
from shards.images import ImageSample, ImageShards
from shards.images.pixels import to_tensor, to_uint8
from workspace.commands import parser_of
from workspace.exact.tar import iterate_tar

COLUMNS, CELL, GAP, BETWEEN, MARGIN = 8, 96, 5, 28, 14
"""New images per row; pixels of each picture, about, and of the gap between."""
LABELS, HEADS = 92, 62
"""Pixels left of the rows for the classes' names, and above them for the columns'."""
PANEL, ARROW, BAND, NUMBER = 208, 124, 292, 12
"""Pixels of the four pictures above, about, and between them; the height of it all; of a code's number."""
LARGE, SMALL = 19, 14
FAINT = (134, 138, 146)
Pixels = NDArray[np.uint8]


def of_each_class(shards: ImageShards, names: Sequence[str]) -> list[ImageSample]:
    """The first held-out image of each class, in the order of the names."""
    index = shards.index("val")
    found: dict[int, ImageSample] = {}
    for number in range(len(index)):
        sample = index.read(number)
        if sample.cls is not None:
            found.setdefault(sample.cls, sample)
        if len(found) == len(names):
            break
    return [found[number] for number in range(len(names))]


def through_the_model(samples: Sequence[ImageSample], model: MQVAE) -> MQVAEOutput:
    """All of them at once."""
    images = np.stack([sample.image for sample in samples])
    with torch.no_grad():
        output: MQVAEOutput = model(to_tensor(images, torch.device("cpu")))
    return output


def columns_of(samples: Sequence[ImageSample], output: MQVAEOutput, grid: int) -> dict[str, list[Pixels]]:
    """Column title → a picture of each sample."""
    cells = (grid, grid)
    scores, positions = output.scores_BL.numpy(), output.positions_BN.numpy()
    return {
        "image": [sample.image for sample in samples],
        "importance": [
            importance(sample.image, row, cells) for sample, row in zip(samples, scores, strict=True)
        ],
        f"kept {positions.shape[1]} of {grid * grid}": [
            kept_cells(sample.image, kept, cells) for sample, kept in zip(samples, positions, strict=True)
        ],
        "reconstruction": list(to_uint8(output.reconstruction_BCHW.numpy())),
    }


def codes_of(
    codes_N: Sequence[int], positions_N: Sequence[int], grid: int, num_codes: int, side: int
) -> Image.Image:
    """The grid with each kept cell's code: its number, and a colour of its own."""
    page = Image.new("RGB", (side, side), (244, 244, 246))
    draw, cell = ImageDraw.Draw(page), side // grid
    for code, position in zip(codes_N, positions_N, strict=True):
        y, x = (place * cell for place in divmod(position, grid))
        red, green, blue = colorsys.hls_to_rgb(code / num_codes, 0.8, 0.6)
        colour = (round(255 * red), round(255 * green), round(255 * blue))
        draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=colour)
        if cell >= 2 * NUMBER - 2:
            middle = (x + cell // 2 - 1, y + cell // 2)
            draw.text(middle, str(code), fill=INK, font=ImageFont.load_default(NUMBER), anchor="mm")
    return page


def way_of(
    columns: Mapping[str, list[Pixels]], codes: Image.Image, arrows: Sequence[str], titles: Sequence[str]
) -> Image.Image:
    """An image → kept cells → codes and positions → the image: four pictures with an arrow between each two."""
    image, _, kept, made = (pictures[0] for pictures in columns.values())
    side = codes.width
    scale = side // image.shape[0]
    pictures = [enlarged(image, scale), enlarged(kept, scale), codes, enlarged(made, scale)]
    page = Image.new("RGB", (4 * side + 3 * ARROW, BAND), PAPER)
    draw = ImageDraw.Draw(page)
    for place, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        x = place * (side + ARROW)
        page.paste(picture, (x, HEADS))
        draw.text(
            (x + side // 2, HEADS - 12), title, fill=INK, font=ImageFont.load_default(LARGE), anchor="ms"
        )
    for place, text in enumerate(arrows):
        x, y = place * (side + ARROW) + side, HEADS + side // 2
        draw.line((x + 14, y, x + ARROW - 20, y), fill=FAINT, width=3)
        draw.polygon([(x + ARROW - 24, y - 8), (x + ARROW - 12, y), (x + ARROW - 24, y + 8)], fill=FAINT)
        draw.multiline_text(
            (x + ARROW // 2, y - 12),
            text,
            fill=FAINT,
            font=ImageFont.load_default(SMALL),
            anchor="md",
            align="center",
        )
    return page


def new_images(folder: Path, classes: int) -> list[list[Pixels]]:
    """The first samples of each class, in the order in which they were drawn."""
    found: list[list[Pixels]] = [[] for _ in range(classes)]
    picture = b""
    for path in sorted(folder.glob("*.tar")):
        for name, data in iterate_tar(path):
            if name.endswith(".png"):
                picture = data
                continue
            row = found[json.loads(data)["cls"]]
            if len(row) < COLUMNS:
                row.append(np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")))
    return found


def picture_of(
    names: Sequence[str], columns: Mapping[str, list[Pixels]], made: Sequence[list[Pixels]]
) -> Image.Image:
    """The whole page: names on the rows, titles on the columns."""
    scale = max(1, CELL // columns["image"][0].shape[0])
    side = columns["image"][0].shape[0] * scale
    count = max(map(len, made))
    step, left = side + GAP, MARGIN + LABELS
    right = left + len(columns) * step + BETWEEN
    size = (right + count * step - GAP + MARGIN, HEADS + len(names) * step - GAP + MARGIN)
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    heads = (
        (left, "held-out images"),
        (right, f"new images: the first {count} of each class"),
    )
    for x, text in heads:
        draw.text((x, MARGIN), text, fill=INK, font=ImageFont.load_default(LARGE))
    for place, title in enumerate(columns):
        middle = left + place * step + side // 2
        draw.text((middle, HEADS - 8), title, fill=FAINT, font=ImageFont.load_default(SMALL), anchor="ms")
    for row, name in enumerate(names):
        y = HEADS + row * step
        draw.text((left - 10, y + side // 2), name, fill=INK, font=ImageFont.load_default(LARGE), anchor="rm")
        for place, images in enumerate(columns.values()):
            page.paste(enlarged(images[row], scale), (left + place * step, y))
        for place, image in enumerate(made[row]):
            page.paste(enlarged(image, scale), (right + place * step, y))
    return page


def enlarged(image: Pixels, scale: int) -> Image.Image:
    """Each pixel as a square."""
    return Image.fromarray(np.ascontiguousarray(image.repeat(scale, axis=0).repeat(scale, axis=1)))


def main() -> None:
    """Write the picture."""
    parser = parser_of("docs.pictures.draw", __doc__)
    parser.add_argument(
        "--artifacts", type=Path, default=Path("artifacts"), help="of a finished run (artifacts)"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/demo.png"), help="the PNG")
    arguments = parser.parse_args()
    page_of(arguments.artifacts).save(arguments.out, optimize=True)


def page_of(artifacts: Path) -> Image.Image:
    """Everything, from a run's folder of artifacts."""
    shards = ImageShards.open(artifacts / "shards")
    names = shards.facts.classes or ()
    model = MQVAE.from_pretrained(artifacts / "mqvae")
    samples = of_each_class(shards, names)
    output, config = through_the_model(samples, model), model.config
    columns = columns_of(samples, output, config.grid)
    table = picture_of(names, columns, new_images(artifacts / "samples", len(names)))
    side = max(1, PANEL // config.image_size) * config.image_size
    codes = codes_of(
        output.codes_BN[0].tolist(), output.positions_BN[0].tolist(), config.grid, config.num_codes, side
    )
    titles = (
        "an image",
        f"the {config.num_kept} cells that matter",
        f"{config.num_kept} codes and positions",
        "the image again",
    )
    arrows = (
        f"score {config.num_positions}\ncells, keep\nthe best",
        f"nearest\nof {config.num_codes}\ncodes",
        "fill in the\nother cells,\ndecode",
    )
    way = way_of(columns, codes, arrows, titles)
    page = Image.new(
        "RGB", (max(way.width + 2 * MARGIN, table.width), BAND + 2 * HEADS // 3 + table.height), PAPER
    )
    page.paste(way, ((page.width - way.width) // 2, 0))
    words = "Stackformer writes codes and positions of its own, one after the other; the decoder makes new images of them:"
    ImageDraw.Draw(page).text(
        (page.width // 2, BAND + 4), words, fill=INK, font=ImageFont.load_default(LARGE), anchor="ma"
    )
    page.paste(table, (0, BAND + 2 * HEADS // 3))
    return page


if __name__ == "__main__":
    main()
