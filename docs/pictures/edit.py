"""The picture of edits in docs/commands.md, from a finished run of the demo: python docs/pictures/edit.py [--artifacts FOLDER].

A row for each kind of edit of the first held-out star: the picture, what stays of it, then the first draws. Nothing is picked
by hand.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from inference.editing.asked import before
from inference.editing.draw import ImageEditor
from inference.editing.region import Edit, Region, read_edit
from models.base.published import StackformerFacts
from models.mqvae import MQVAE
from models.stackformer import Stackformer
from reporting.figures import INK, PAPER, image_grid, kept_cells
from settings.sample import SampleSettings
from shards.images import ImageShards
from workspace.commands import parser_of
from workspace.exact.manifest import facts_of, read_manifest
from workspace.settings import read_section

SHOWN, DRAWS, SCALE, LABEL = "star", 8, 3, 30
ROWS = (
    ("--keep upper: the lower half, from the exact conditional distribution", "keep", "upper", 1, "star"),
    ("--redraw 8,8,24,24: the middle, each code given those before it", "redraw", "8,8,24,24", 1, "star"),
    ("--redraw 8,8,24,24 --candidates 32: given all that stays", "redraw", "8,8,24,24", 32, "star"),
    ("--keep upper --class heart: as another class", "keep", "upper", 1, "heart"),
)
"""Heading, kind of region, region, candidates, class."""


def row_of(
    models: tuple[Stackformer, MQVAE], edit: Edit, settings: SampleSettings, cls: int, title: str
) -> Image.Image:
    """The picture, what stays, the draws."""
    device = torch.device("cpu")
    image, _, stays, grid = before(edit, settings, models[1], models[0].config.num_kept)
    draws = ImageEditor(*models, settings, edit, device)(
        torch.tensor([[cls]]).expand(DRAWS, -1), range(DRAWS)
    )
    pictures = np.stack([image, kept_cells(image, stays, (grid, grid)), *draws])
    made = image_grid(pictures, len(pictures), SCALE, None)
    page = Image.new("RGB", (made.width, made.height + LABEL - 12), PAPER)
    page.paste(made, (0, LABEL - 12))
    ImageDraw.Draw(page).text((12, 6), title, fill=INK, font=ImageFont.load_default(14))
    return page


def page_of(artifacts: Path, params: Path, work: Path) -> Image.Image:
    """All rows, below each other."""
    models = (
        Stackformer.from_pretrained(artifacts / "stackformer"),
        MQVAE.from_pretrained(artifacts / "mqvae"),
    )
    classes = (
        facts_of(StackformerFacts, read_manifest(artifacts / "stackformer", "stackformer")).classes or ()
    )
    index = ImageShards.open(artifacts / "shards").index("val")
    picture = next(found for found in map(index.read, range(len(index))) if found.cls == classes.index(SHOWN))
    path = work / f"{picture.key.replace('/', '-')}.png"
    Image.fromarray(picture.image).save(path)
    config, rows = models[1].config, []
    for title, option, region, candidates, cls in ROWS:
        changes = [
            f"sample.edit={path}",
            f"sample.{option}={region!r}",
            f"sample.candidates={candidates}",
            "sample.batch=32",
        ]
        settings = read_section(params, SampleSettings, changes)
        edit = read_edit(path, Region(option, region), config.image_size, config.grid)
        rows.append(row_of(models, edit, settings, classes.index(cls), title))
    page = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), PAPER)
    place = 0
    for row in rows:
        page.paste(row, (0, place))
        place += row.height
    return page


def main() -> None:
    """Draw and write the picture."""
    parser = parser_of("docs.pictures.edit", __doc__)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="of a finished run")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="the run's params file")
    parser.add_argument(
        "--work", type=Path, default=Path(".runs"), help="a folder for the picture that is edited"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/edit.png"), help="the picture's file")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    page_of(given.artifacts, given.params, given.work).save(given.out, optimize=True)


if __name__ == "__main__":
    main()
