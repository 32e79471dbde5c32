"""Laws of the mask module and the quantiser (paper Eq. 1-4), against literal transcriptions in float64."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.mqvae.masker import Masker, fill, num_kept, random_ranking, top_positions
from models.mqvae.quantizer import CodebookBatch, Quantizer, QuantizerConfig

EMA = QuantizerConfig(
    kind="ema", estimator="straight_through", decay=0.9, commitment=0.25, restart_every=2, restart_below=0.1
)
GRADIENT = dataclasses.replace(EMA, kind="gradient")


def identity(tensor: Tensor) -> Tensor:
    return tensor


def masker(dim: int, kept: int, mask: str = "adaptive") -> Masker:
    torch.manual_seed(dim * 31 + kept)
    return Masker(dim, kept, mask, scorer_width=7).double()


@torch.no_grad()
def literal_eq_2(layer: Masker, z: Tensor) -> float:
    first, _, second = layer.scorer
    hidden = [
        sum(w * x for w, x in zip(row, z, strict=True)) + b
        for row, b in zip(first.weight, first.bias, strict=True)
    ]
    active = [h * 0.5 * (1 + math.erf(h / math.sqrt(2))) for h in hidden]
    logit = sum(w * a for w, a in zip(second.weight[0], active, strict=True)) + second.bias[0]
    return 1 / (1 + math.exp(-float(logit)))


def literal_layer_norm(z: Tensor) -> Tensor:
    mean = sum(z) / len(z)
    variance = sum((x - mean) ** 2 for x in z) / len(z)
    return torch.stack([(x - mean) / (variance + 1e-5) ** 0.5 for x in z])


@given(st.integers(1, 3), st.integers(2, 9), st.integers(1, 9), st.integers(0, 99))
def test_scoring_choice_and_modulation_equal_eq_2_to_4(batch: int, length: int, kept: int, seed: int) -> None:
    kept = min(kept, length)
    layer = masker(5, kept)
    z_BLD = torch.randn(batch, length, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    masked = layer(z_BLD)
    for b in range(batch):
        scores = [literal_eq_2(layer, z) for z in z_BLD[b]]
        torch.testing.assert_close(masked.scores_BL[b], torch.tensor(scores, dtype=torch.float64))
        best = sorted(range(length), key=lambda cell: -scores[cell])[:kept]
        assert masked.positions_BN[b].tolist() == sorted(best)
        for n, cell in enumerate(sorted(best)):
            expected = layer.to_code(literal_layer_norm(z_BLD[b, cell]) * scores[cell])
            torch.testing.assert_close(masked.features_BND[b, n], expected)


@given(st.integers(1, 64), st.floats(0, 0.99))
def test_n_is_the_rounded_share_of_the_cells(side: int, ratio: float) -> None:
    assert num_kept(ratio, side * side) == round((1 - ratio) * side * side)


def test_the_gradient_reaches_the_scorer_through_kept_cells_alone() -> None:
    layer, z_BLD = masker(6, 3), torch.randn(2, 8, 6, dtype=torch.float64, requires_grad=True)
    masked = layer(z_BLD)
    masked.features_BND.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.scorer.parameters())
    assert (z_BLD.grad[~masked.kept_BL] == 0).all()
    assert (z_BLD.grad[masked.kept_BL].abs().sum(-1) > 0).all()


def test_frozen_scores_still_modulate_and_pass_no_gradient() -> None:
    layer, z_BLD = masker(6, 3), torch.randn(2, 8, 6, dtype=torch.float64)
    frozen, free = layer(z_BLD, frozen=True), layer(z_BLD)
    torch.testing.assert_close(frozen.features_BND, free.features_BND)
    frozen.features_BND.square().sum().backward()
    assert all(parameter.grad is None for parameter in layer.scorer.parameters())


def test_noise_changes_the_ranking_of_an_adaptive_mask_as_far_as_it_is_weighed() -> None:
    layer, z_BLD = masker(6, 3), torch.randn(2, 8, 6, dtype=torch.float64)
    ranking_BL = random_ranking([1, 2], 8).double()
    plain = layer(z_BLD).positions_BN
    assert torch.equal(layer(z_BLD, ranking_BL, exploration=0.0).positions_BN, plain)
    assert torch.equal(layer(z_BLD, ranking_BL, exploration=1e9).positions_BN, top_positions(ranking_BL, 3))


def test_a_random_mask_ranks_by_the_numbers_given_and_still_modulates() -> None:
    layer, z_BLD = masker(6, 3, "random"), torch.randn(2, 8, 6, dtype=torch.float64)
    ranking_BL = random_ranking([1, 2], 8)
    masked = layer(z_BLD, ranking_BL)
    assert torch.equal(masked.positions_BN, top_positions(ranking_BL, 3))
    assert masked.scores_BL.min() > 0 and masked.scores_BL.max() < 1
    with pytest.raises(ValueError, match="pass ranking_BL"):
        layer(z_BLD)


def test_each_row_of_a_random_ranking_depends_on_its_own_seed() -> None:
    assert torch.equal(random_ranking([5, 6, 7], 10)[1:], random_ranking([6, 7], 10))
    assert not torch.equal(random_ranking([5], 10), random_ranking([6], 10))


def test_without_a_mask_every_cell_is_kept_in_order() -> None:
    layer, z_BLD = masker(6, 8, "none"), torch.randn(2, 8, 6, dtype=torch.float64)
    masked = layer(z_BLD)
    assert masked.positions_BN.tolist() == [list(range(8))] * 2
    torch.testing.assert_close(masked.features_BND, layer.to_code(z_BLD))


def test_of_equal_ranks_the_earlier_cell_wins() -> None:
    assert top_positions(torch.zeros(1, 6), 3).tolist() == [[0, 1, 2]]


@given(st.integers(1, 3), st.integers(1, 10), st.integers(0, 99))
def test_filling_puts_each_feature_where_it_sat_and_the_mask_code_elsewhere(
    batch: int, length: int, seed: int
) -> None:
    positions_BN = top_positions(random_ranking(range(seed, seed + batch), length), (length + 1) // 2)
    features_BND, mask_code_D = torch.randn(batch, positions_BN.shape[1], 4), torch.randn(4)
    grid_BLD = fill(features_BND, positions_BN, mask_code_D, length)
    for b in range(batch):
        for cell in range(length):
            where = (positions_BN[b] == cell).nonzero().flatten().tolist()
            expected = features_BND[b, where[0]] if where else mask_code_D
            assert torch.equal(grid_BLD[b, cell], expected)


def quantizer(config: QuantizerConfig, codes: int = 6, dim: int = 3) -> Quantizer:
    torch.manual_seed(1)
    layer = Quantizer(config, codes, dim).double()
    with torch.no_grad():
        layer.codebook_KD.copy_(torch.randn(codes, dim))
    return layer


@pytest.mark.parametrize("config", [EMA, GRADIENT], ids=lambda config: config.kind)
def test_the_code_is_the_nearest_of_the_codebook_as_in_eq_1(config: QuantizerConfig) -> None:
    layer, z_BND = quantizer(config), torch.randn(2, 5, 3, dtype=torch.float64)
    out = layer(z_BND)
    for b in range(2):
        for n in range(5):
            distances = [
                sum((z - e) ** 2 for z, e in zip(z_BND[b, n], code, strict=True))
                for code in layer.codebook_KD
            ]
            assert out.codes_BN[b, n] == min(range(6), key=lambda k: distances[k])
            torch.testing.assert_close(out.vectors_BND[b, n], layer.codebook_KD[out.codes_BN[b, n]])


def test_codes_to_vectors_to_codes_is_the_identity() -> None:
    layer, codes_BN = quantizer(EMA), torch.randint(0, 6, (3, 7))
    assert torch.equal(layer.nearest(layer.lookup(codes_BN)), codes_BN)


def test_the_gradient_passes_straight_through() -> None:
    layer, z_BND = quantizer(EMA), torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 5, 3, dtype=torch.float64)
    (layer(z_BND).vectors_BND * weights).sum().backward()
    torch.testing.assert_close(z_BND.grad, weights)


def test_the_losses_are_vqgans() -> None:
    z_BND = torch.randn(2, 5, 3, dtype=torch.float64)
    for config in (EMA, GRADIENT):
        layer = quantizer(config)
        out = layer(z_BND)
        distance = (z_BND - layer.codebook_KD[out.codes_BN]).square().mean()
        torch.testing.assert_close(out.loss, distance * (0.25 if config.kind == "ema" else 1.25))


def seen_parts(parts: int, images: int = 8) -> list[CodebookBatch]:
    layer = quantizer(EMA)
    features = torch.randn(images, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    size = images // parts
    return [
        CodebookBatch(start, features[start : start + size], layer.nearest(features[start : start + size]))
        for start in range(0, images, size)
    ]


def test_the_ema_step_moves_each_code_to_the_average_of_its_features() -> None:
    layer, (seen,) = quantizer(EMA), seen_parts(1)
    layer.initialise([seen], 8, 0, identity)
    counts, sums = layer.count_K.clone(), layer.sum_KD.clone()
    codes = layer.nearest(seen.features_BND)
    layer.update([dataclasses.replace(seen, codes_BN=codes)], 8, False, 0, identity)
    for k in range(6):
        mine = seen.features_BND[codes == k]
        count = 0.9 * counts[k] + 0.1 * len(mine)
        total = 0.9 * sums[k] + 0.1 * mine.sum(0)
        torch.testing.assert_close(layer.codebook_KD[k], total / count)


def test_the_codebook_does_not_depend_on_how_the_batch_was_split() -> None:
    whole, split = quantizer(EMA), quantizer(EMA)
    for layer, parts in ((whole, 1), (split, 4)):
        layer.initialise(seen_parts(parts), 8, 7, identity)
        layer.update(seen_parts(parts), 8, True, 7, identity)
    torch.testing.assert_close(whole.codebook_KD, split.codebook_KD)
    torch.testing.assert_close(whole.count_K, split.count_K)


def test_dead_codes_restart_from_features_of_the_batch_and_live_codes_stay() -> None:
    layer, (seen,) = quantizer(EMA), seen_parts(1)
    layer.initialise([seen], 8, 0, identity)
    layer.count_K[2] = 1e-9
    codes = torch.zeros(8, 5, dtype=torch.long)
    before = layer.codebook_KD.clone()
    update = layer.update([dataclasses.replace(seen, codes_BN=codes)], 8, True, 5, identity)
    assert update.restarted == 1
    assert (layer.codebook_KD[2] == seen.features_BND.reshape(-1, 3)).all(-1).any()
    torch.testing.assert_close(layer.codebook_KD[3:], before[3:])


def test_a_bypassed_quantiser_passes_features_through() -> None:
    z_BND = torch.randn(2, 5, 3, dtype=torch.float64)
    out = quantizer(EMA)(z_BND, bypass=True)
    assert torch.equal(out.vectors_BND, z_BND) and out.loss == 0


def test_our_nearest_code_is_that_of_vector_quantize_pytorch() -> None:
    oracle = pytest.importorskip("vector_quantize_pytorch")
    layer = quantizer(EMA)
    theirs = oracle.VectorQuantize(dim=3, codebook_size=6).double().eval()
    theirs._codebook.embed.copy_(layer.codebook_KD[None])
    z_BND = torch.randn(4, 9, 3, dtype=torch.float64)
    _, codes, _ = theirs(z_BND)
    assert torch.equal(layer.nearest(z_BND), codes)
