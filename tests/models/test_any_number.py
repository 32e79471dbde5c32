"""Laws of an MQ-VAE trained for any number of cells: nested choices, slots that hold nothing, the same bytes elsewhere."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.mqvae import MQVAE
from models.mqvae.masker import drawn_count
from models.mqvae.quantizer import CodebookBatch, Quantizer
from tests.training.test_mqvae_training import CONFIG, TRAINING
from training.mqvae.kept import drawn_counts, draws_of

ANY = dataclasses.replace(CONFIG, kept="any")
LENGTH = ANY.num_positions


def model_and_images(batch: int = 4) -> tuple[MQVAE, Tensor]:
    """A float64 model whose parts all matter, and images."""
    torch.manual_seed(0)
    model = MQVAE(ANY).double().eval()
    for weight in model.parameters():
        weight.data.add_(0.1 * torch.randn_like(weight))
    return model, torch.rand(batch, 3, ANY.image_size, ANY.image_size, dtype=torch.float64) * 2 - 1


def test_choices_are_prefixes_of_one_order_and_a_cells_code_does_not_depend_on_their_number() -> None:
    model, image_BCHW = model_and_images()
    whole = model.tokenize(image_BCHW, kept=LENGTH)
    before = [set[int]() for _ in image_BCHW]
    for count in range(1, LENGTH + 1):
        tokens = model.tokenize(image_BCHW, kept=count)
        assert tokens.codes_BN.shape == (len(image_BCHW), count)
        assert torch.equal(tokens.codes_BN, whole.codes_BN.gather(1, tokens.positions_BN))
        now = [set(row) for row in tokens.positions_BN.tolist()]
        assert all(old < new for old, new in zip(before, now, strict=True))
        before = now


def test_images_of_one_batch_keep_as_many_cells_as_each_is_asked_for() -> None:
    model, image_BCHW = model_and_images()
    kept_B = torch.tensor([1, LENGTH, 3, LENGTH // 2])
    together = model(image_BCHW, kept=kept_B)
    assert together.kept_BL.sum(1).tolist() == kept_B.tolist()
    tokens = model.tokenize(image_BCHW, kept=kept_B)
    for row, count in enumerate(kept_B.tolist()):
        alone = model(image_BCHW[row : row + 1], kept=count)
        torch.testing.assert_close(together.reconstruction_BCHW[row], alone.reconstruction_BCHW[0])
        held = tokens.positions_BN[row] < LENGTH
        assert torch.equal(tokens.positions_BN[row][held], alone.positions_BN[0])
        assert torch.equal(tokens.codes_BN[row][held], alone.codes_BN[0])
    decoded_BCHW = model.decode_tokens(tokens.codes_BN, tokens.positions_BN)
    torch.testing.assert_close(decoded_BCHW, together.reconstruction_BCHW.detach())


def test_several_numbers_of_an_image_give_what_each_gives_alone() -> None:
    model, image_BCHW = model_and_images(2)
    kept_R = torch.tensor([1, LENGTH, 5, 3, 3, LENGTH // 2])
    together, alone = (
        model(images, kept=kept_R) for images in (image_BCHW, image_BCHW.repeat_interleave(3, dim=0))
    )
    assert together.kept_BL.sum(1).tolist() == kept_R.tolist()
    torch.testing.assert_close(together.reconstruction_BCHW, alone.reconstruction_BCHW)
    torch.testing.assert_close(together.commitment, alone.commitment)


def test_commitment_is_the_mean_over_images_of_each_images_own() -> None:
    model, image_BCHW = model_and_images()
    counts = [2, 7, 1, LENGTH]
    together = model(image_BCHW, kept=torch.tensor(counts)).commitment
    alone = [model(image_BCHW[row : row + 1], kept=count).commitment for row, count in enumerate(counts)]
    torch.testing.assert_close(together, torch.stack(alone).mean())


@pytest.mark.parametrize("split", [1, 2, 4])
def test_first_codes_are_features_of_kept_cells_however_the_batch_is_split(split: int) -> None:
    torch.manual_seed(0)
    layer = Quantizer(CONFIG.quantizer, 24, 3).double()
    features_BND = torch.randn(4, 8, 3, dtype=torch.float64)
    held_BN = torch.arange(8) < torch.tensor([8, 3, 6, 7])[:, None]
    codes_BN = torch.zeros(4, 8, dtype=torch.int64)
    parts = zip(*(part.split(4 // split) for part in (features_BND, codes_BN, held_BN)), strict=True)
    batches = [CodebookBatch(number * (4 // split), *part) for number, part in enumerate(parts)]
    layer.initialise(batches, 4, seed=5, reduce=lambda tensor: tensor)
    rows = {tuple(row) for row in features_BND[held_BN].tolist()}
    found = [tuple(row) for row in layer.codebook_KD.tolist()]
    assert set(found) <= rows and len(set(found)) >= 21  # 6 turns of 4 images; one of them keeps only 3 cells
    assert float(layer.count_K[0]) == pytest.approx(24 / 24)
    again = Quantizer(CONFIG.quantizer, 24, 3).double()
    whole = [CodebookBatch(0, features_BND, codes_BN, held_BN)]
    again.initialise(whole, 4, seed=5, reduce=lambda tensor: tensor)
    assert torch.equal(again.codebook_KD, layer.codebook_KD)


def test_a_model_of_fixed_n_keeps_its_config_and_one_for_any_number_says_so(tmp_path: Path) -> None:
    MQVAE(CONFIG).save_pretrained(tmp_path / "fixed")
    MQVAE(ANY).save_pretrained(tmp_path / "any")
    told = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("fixed", "any")]
    assert "kept" not in told[0] and told[1] == told[0] | {"kept": "any"}
    assert MQVAE.from_pretrained(tmp_path / "any").config == ANY
    assert MQVAE.from_pretrained(tmp_path / "fixed").config == CONFIG


def test_where_all_cells_are_kept_their_number_is_not_drawn() -> None:
    with pytest.raises(ValueError, match="kept is any and mask is none; expected kept fixed"):
        dataclasses.replace(ANY, mask="none", mask_ratio=0.0)


@given(length=st.integers(1, 200), power=st.floats(0, 16))
def test_numbers_of_cells_are_drawn_in_proportion_to_a_power_of_themselves(length: int, power: float) -> None:
    units = [(number + 0.5) / 500 for number in range(500)]
    counts = [drawn_count(unit, length, power) for unit in units]
    assert counts == sorted(counts) and counts[0] >= 1 and counts[-1] <= length
    assert drawn_count(0.0, length, power) == 1 and drawn_count(1.0, length, power) == length
    for most in (1, length // 2 + 1, length):
        share = sum(count <= most for count in counts) / len(counts)
        assert share == pytest.approx((most / length) ** (1 + power), abs=2 / len(counts))


def test_numbers_of_one_image_are_spread_over_all_and_are_its_own() -> None:
    settings = TRAINING.replaced(kept_draws=4, kept_power=0.0)
    counts_R = drawn_counts(range(200), ANY, settings)
    assert counts_R is not None and draws_of(ANY, settings) == 4
    counts_BM = counts_R.view(200, 4)
    assert (counts_BM.sort(dim=1).values.diff(dim=1) == LENGTH // 4).all()
    assert set(counts_R.tolist()) == set(range(1, LENGTH + 1))
    alone_R = drawn_counts([7], ANY, settings.replaced(kept_draws=1))
    assert alone_R is not None and alone_R.tolist() == counts_BM[7, :1].tolist()
    assert drawn_counts(range(4), CONFIG, settings) is None and draws_of(CONFIG, settings) == 1
