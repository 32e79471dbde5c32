"""Laws of editing a picture: regions become cells, what stays keeps its codes, what is drawn lies inside."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from inference.editing.draw import ImageEditor, staying_of
from inference.editing.region import Edit, Region, read_edit
from inference.encode import KeyedImages, encode
from inference.sampling.decode import decode
from inference.sampling.sample import ImageSampler
from models.mqvae import MQVAE
from models.stackformer import NetworkConfig, Stackformer, StackformerConfig
from tests.stages.test_train_and_sample import DECODER, settings_of
from workspace.errors import UserError

CPU = torch.device("cpu")
SIZE, GRID = 8, 4


def picture(path: Path, size: tuple[int, int] = (SIZE, SIZE), **save: object) -> Path:
    """A picture of random colours."""
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, **save)
    return path


def cells(again_L: NDArray[np.bool_]) -> list[str]:
    """Rows of the grid, # where a cell is drawn again."""
    return ["".join("#" if cell else "." for cell in row) for row in again_L.reshape(GRID, GRID)]


@pytest.mark.parametrize(
    ("option", "text", "rows"),
    [
        ("keep", "upper", ["....", "....", "####", "####"]),
        ("redraw", "upper", ["####", "####", "....", "...."]),
        ("keep", "left", ["..##", "..##", "..##", "..##"]),
        ("redraw", "2,2,6,4", ["....", ".##.", "....", "...."]),
        ("redraw", " 2, 2 ,6,5", ["....", ".##.", ".##.", "...."]),
        ("keep", "2,2,6,5", ["####", "#..#", "####", "####"]),
        ("redraw", "7,7,8,8", ["....", "....", "....", "...#"]),
    ],
)
def test_a_region_is_the_cells_that_it_touches(
    tmp_path: Path, option: str, text: str, rows: list[str]
) -> None:
    path = picture(tmp_path / "a.png")
    found = read_edit(path, Region(option, text), SIZE, GRID)
    assert cells(found.again_L) == rows
    assert np.array_equal(found.image, np.asarray(Image.open(path)))
    size = (SIZE, SIZE)
    Region(option, text).pixels(size, "a").save(tmp_path / "mask.png")
    by_mask = read_edit(path, Region(option, str(tmp_path / "mask.png")), SIZE, GRID)
    assert np.array_equal(by_mask.again_L, found.again_L)


def test_a_larger_or_turned_picture_takes_its_region_with_it(tmp_path: Path) -> None:
    wide = picture(tmp_path / "wide.png", (64, 32))  # the middle 32 columns stay
    assert cells(read_edit(wide, Region("redraw", "16,0,24,8"), SIZE, GRID).again_L) == [
        "#...",
        "....",
        "....",
        "....",
    ]
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn: what is 64 wide is seen 64 high
    turned = picture(tmp_path / "turned.jpg", (64, 32), exif=exif)
    assert cells(read_edit(turned, Region("redraw", "24,40,32,48"), SIZE, GRID).again_L)[3] == "...#"
    with pytest.raises(UserError, match="does not fit .*turned.jpg, 32 × 64 pixels"):
        read_edit(turned, Region("redraw", "40,0,64,8"), SIZE, GRID)


def models() -> tuple[Stackformer, MQVAE]:
    """With random weights: K = 6, L = 16, N = 8, three classes."""
    torch.manual_seed(0)
    network = NetworkConfig(16, 2, 1, 1, 0.0, "ascending")
    made = Stackformer(StackformerConfig(network, 6, 16, 8, "class", 1, 3)).eval(), MQVAE(DECODER).eval()
    for model in made:
        for weight in model.parameters():
            weight.data.add_(0.2 * torch.randn_like(weight))
    return made


@pytest.mark.parametrize("changes", [{}, {"candidates": 3, "batch": 4}])
def test_kept_cells_decode_from_the_same_codes(tmp_path: Path, changes: dict[str, int]) -> None:
    stackformer, mqvae = models()
    edit = read_edit(picture(tmp_path / "a.png"), Region("redraw", "2,0,8,6"), SIZE, GRID)
    settings = settings_of(edit="a.png", redraw="2,0,8,6", **changes)
    editor = ImageEditor(stackformer, mqvae, settings, edit, CPU)
    condition = torch.tensor([[0], [1], [2], [0]])
    drawn = editor.tokens(condition, range(4))
    before = encode(mqvae, KeyedImages(edit.image[None], [edit.name], 3))
    outside = {
        int(p): int(c)
        for c, p in zip(before.codes[0], before.positions[0], strict=True)
        if not edit.again_L[p]
    }
    assert 0 < len(outside) < 8 and len({tuple(row) for row in drawn.codes_BN.tolist()}) > 1
    for codes, positions in zip(drawn.codes_BN.tolist(), drawn.positions_BN.tolist(), strict=True):
        found = dict(zip(positions, codes, strict=True))
        assert {place: code for place, code in found.items() if not edit.again_L[place]} == outside
        assert positions == sorted(set(positions))
    images = editor(condition, range(4))
    assert np.abs(images.astype(int) - decode(mqvae, drawn.codes_BN, drawn.positions_BN, 4)).max() <= 1
    assert len(editor.effective) == 4 and all(1 <= worth <= 3.001 for worth in editor.effective)


def test_all_drawn_again_is_a_sample(tmp_path: Path) -> None:
    stackformer, mqvae = models()
    edit = Edit("a.png", np.zeros((SIZE, SIZE, 3), np.uint8), np.ones(16, bool))
    condition = torch.tensor([[0], [1], [2], [0]])
    edited = ImageEditor(stackformer, mqvae, settings_of(), edit, CPU)(condition, range(4))
    sampled = ImageSampler(stackformer, mqvae, settings_of(), CPU)(condition, range(4))
    assert np.array_equal(edited, sampled)


def test_a_model_of_any_number_of_codes_is_refused() -> None:
    _, mqvae = models()
    network = NetworkConfig(16, 2, 1, 1, 0.0, "ascending")
    stops = Stackformer(StackformerConfig(network, 6, 16, 8, "class", 1, 3, fewest_kept=4)).eval()
    edit = Edit("a.png", np.zeros((SIZE, SIZE, 3), np.uint8), np.ones(16, bool))
    with pytest.raises(UserError, match="the Stackformer draws 4 … 8 codes per image"):
        ImageEditor(stops, mqvae, settings_of(), edit, CPU)


def test_a_region_without_codes_is_refused(tmp_path: Path) -> None:
    _, mqvae = models()
    edit = read_edit(picture(tmp_path / "a.png"), Region("keep", "upper"), SIZE, GRID)
    kept = encode(mqvae, KeyedImages(edit.image[None], [edit.name], 0)).positions[0]
    empty = np.ones(16, bool)
    empty[kept] = False
    with pytest.raises(UserError, match="all 8 codes of a.png lie outside of the region"):
        staying_of(replace(edit, again_L=empty), mqvae)
