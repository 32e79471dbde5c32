"""Laws of editing a picture: regions become cells, what stays keeps its codes, what is drawn lies inside."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from inference.editing.asked import before, told
from inference.editing.draw import ImageEditor, staying_of
from inference.editing.region import Edit, Region, read_edit
from inference.encode import KeyedImages, encode
from inference.sampling.decode import decode
from inference.sampling.sample import ImageSampler
from models.mqvae import MQVAE
from models.sampling.state import CachedStackformer
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
    assert [*editor.effective] == [*range(4)] and all(
        1 <= worth <= 3.001 for worth in editor.effective.values()
    )


def test_what_candidates_are_worth_belongs_to_the_picture(tmp_path: Path) -> None:
    """Whatever was drawn before, or beside it; more candidates than a batch has room for are drawn in parts."""
    edit = read_edit(picture(tmp_path / "a.png"), Region("redraw", "2,0,8,6"), SIZE, GRID)
    condition = torch.tensor([[1], [1], [1], [1]])
    found = []
    for batch, order in ((4, [2, 3, 0, 1]), (8, [0, 1, 2, 3]), (2, [3, 2, 1, 0])):
        settings = settings_of(edit="a.png", redraw="2,0,8,6", candidates=3, batch=batch)
        editor = ImageEditor(*models(), settings, edit, CPU)
        images = editor(condition, order)
        found.append((editor.effective, dict(zip(order, images.astype(int), strict=True))))
    for worth, images in found[1:]:
        assert worth == pytest.approx(found[0][0]) and len(set(worth.values())) > 1
        assert all(np.abs(images[number] - found[0][1][number]).max() <= 1 for number in images)


def test_no_more_sequences_than_the_batch_are_drawn_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = read_edit(picture(tmp_path / "a.png"), Region("redraw", "2,0,8,6"), SIZE, GRID)
    seen: list[tuple[int, torch.dtype | None]] = []
    whole = CachedStackformer.__init__

    def counted(
        self: CachedStackformer, model: Stackformer, rows: int, *given: object, **named: object
    ) -> None:
        seen.append((rows, named["kept_as"]))
        whole(self, model, rows, *given, **named)

    monkeypatch.setattr(CachedStackformer, "__init__", counted)
    monkeypatch.setattr("inference.editing.draw.cache_dtype", lambda settings, device: torch.bfloat16)
    for candidates, expected in ((1, [2, 2]), (2, [2] * 4), (5, [2, 2, 1] * 4)):
        settings = settings_of(edit="a.png", redraw="2,0,8,6", candidates=candidates, batch=2)
        seen.clear()
        ImageEditor(*models(), settings, edit, CPU)(torch.tensor([[0], [1], [2], [0]]), range(4))
        assert seen == [(rows, torch.bfloat16) for rows in expected]


def test_an_mqvae_of_any_number_of_cells_is_asked_for_the_stackformers(tmp_path: Path) -> None:
    stackformer, _ = models()
    mqvae = MQVAE(replace(DECODER, kept="any", mask_ratio=0.25)).eval()
    assert mqvae.config.num_kept == 12 and stackformer.config.num_kept == 8
    edit = read_edit(picture(tmp_path / "a.png"), Region("redraw", "2,0,8,6"), SIZE, GRID)
    settings = settings_of(edit="a.png", redraw="2,0,8,6")
    drawn = ImageEditor(stackformer, mqvae, settings, edit, CPU).tokens(torch.tensor([[0]]), [0])
    assert drawn.codes_BN.shape == (1, 8)
    assert " of 8 codes are drawn again" in told(edit, settings, mqvae, 8)
    image, back, stays, _ = before(edit, settings, mqvae, 8)
    assert image.shape == back.shape and len(stays) < 16
    with pytest.raises(UserError, match="the Stackformer draws 8 codes per image, and the MQ-VAE encodes 12"):
        ImageEditor(stackformer, MQVAE(replace(DECODER, mask_ratio=0.25)).eval(), settings, edit, CPU)


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
    with pytest.raises(
        UserError, match="needs a Stackformer of one number of codes, and this one draws 4 … 8 per image"
    ):
        ImageEditor(stops, mqvae, settings_of(), edit, CPU)


def test_a_region_without_codes_is_refused(tmp_path: Path) -> None:
    _, mqvae = models()
    edit = read_edit(picture(tmp_path / "a.png"), Region("keep", "upper"), SIZE, GRID)
    kept = encode(mqvae, KeyedImages(edit.image[None], [edit.name], 0)).positions[0]
    empty = np.ones(16, bool)
    empty[kept] = False
    with pytest.raises(UserError, match="all 8 codes of a.png lie outside of the region"):
        staying_of(replace(edit, again_L=empty), mqvae, 8)
