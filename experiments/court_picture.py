"""Draw the court: the same held-out images by several choosers, the cells that each keeps, and some of its samples.

python -m experiments.court_picture --runs artifacts/court --seed 0 --out docs/pictures/court.png adaptive-75-f2 vqgan
"""

import base64
import io
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from reporting.figures import GAP, INK, MARGIN, PAPER, TEXT, image_grid, kept_cells
from reporting.gallery import Example, read_examples
from shards.samples import read_samples, sample_shards
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import atomic_path, read_manifest

TABLE = Path("experiments/court/params.yaml")
SHOWN, SAMPLED, SCALE = 8, 16, 2
NO_NAMES = [""] * 65536
"""Names of classes, which the picture does not show."""
Pixels = NDArray[np.uint8]


def pixels(uri: str) -> Pixels:
    """A data: URI's picture, uint8 [H, W, 3]."""
    raw = base64.b64decode(uri.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))


def examples_of(run: Path) -> list[Example]:
    """The first examples of a run's reconstructions."""
    folder = run / "reconstructions"
    return read_examples(folder, read_manifest(folder, "reconstructions"), NO_NAMES, SHOWN)


def samples_of(run: Path) -> Pixels:
    """The first samples of a run, uint8 [SAMPLED, H, W, 3]."""
    folder = run / "samples"
    manifest = read_manifest(folder, "samples")
    found = (one.image for tar in sample_shards(folder, manifest) for one in read_samples(tar, manifest))
    return np.stack(list(islice(found, SAMPLED)))


def rows_of(runs: Sequence[Path], names: Sequence[str]) -> list[tuple[str, Pixels]]:
    """Title and pictures of each row.

    Raises:
        UserError: the runs' examples are not the same images.
    """
    examples = [examples_of(run) for run in runs]
    keys = [[one.key for one in found] for found in examples]
    if any(found != keys[0] for found in keys):
        raise UserError(
            f"the runs {', '.join(map(str, runs))} reconstructed other images; expected the same ones"
        )
    inputs = np.stack([pixels(one.input) for one in examples[0]])
    rows = [("held-out images", inputs)]
    for name, found in zip(names, examples, strict=True):
        counts = [len(one.kept) for one in found]
        if counts[0] < found[0].grid[0] * found[0].grid[1]:
            cells = [
                kept_cells(image, np.array(one.kept), one.grid)
                for image, one in zip(inputs, found, strict=True)
            ]
            rows.append((f"{name}: the cells it keeps", np.stack(cells)))
        made = [
            next(made.image for made in one.made if made.count == count)
            for one, count in zip(found, counts, strict=True)
        ]
        rows.append((f"{name}: reconstructions", np.stack([pixels(uri) for uri in made])))
    return rows + [(f"{name}: samples", samples_of(run)) for name, run in zip(names, runs, strict=True)]


def page_of(rows: Sequence[tuple[str, Pixels]]) -> Image.Image:
    """Rows below each other, each with its title."""
    grids = [image_grid(images, SHOWN, SCALE, None) for _, images in rows]
    head = TEXT + 2 * GAP
    page = Image.new("RGB", (grids[0].width, sum(grid.height + head for grid in grids)), PAPER)
    draw, y = ImageDraw.Draw(page), 0
    for (title, _), grid in zip(rows, grids, strict=True):
        draw.text((MARGIN, y + GAP), title, fill=INK, font=ImageFont.load_default(TEXT))
        page.paste(grid, (0, y + head))
        y += head + grid.height
    return page


def main() -> None:
    """The command line."""
    parser = parser_of("experiments.court_picture", __doc__)
    parser.add_argument("--runs", type=Path, required=True, help="folder with ARM/SEED")
    parser.add_argument("--seed", default="0", help="which run of each arm")
    parser.add_argument("--out", type=Path, required=True, help="a PNG")
    parser.add_argument("arms", nargs="+", help="arms of the court, in the order of their rows")
    arguments = parser.parse_args()
    with mistakes_in_one_line():
        titles = {row["arm"]: row["title"] for row in yaml.safe_load(TABLE.read_text("utf-8"))["rows"]}
        unknown = [arm for arm in arguments.arms if arm not in titles]
        if unknown:
            raise UserError(f"{', '.join(unknown)}: not an arm of the court; expected of {', '.join(titles)}")
        runs = [arguments.runs / arm / arguments.seed for arm in arguments.arms]
        page = page_of(rows_of(runs, [titles[arm] for arm in arguments.arms]))
        with atomic_path(arguments.out) as path:
            page.quantize(256).save(path, "PNG", optimize=True)


if __name__ == "__main__":
    main()
