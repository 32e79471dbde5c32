"""Algorithm 1 with caches against Algorithm 1 with loops; truncation; guidance; seeds."""

import itertools
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.sampling import (
    CachedStackformer,
    PositionMemory,
    Sampler,
    SamplingSettings,
    Truncation,
    draw,
    draw_uniform,
    sample,
)
from models.stackformer import NetworkConfig, Stackformer, StackformerConfig
from tests.models.literal_stackformer import literal_algorithm_1, literal_choice

Build = Callable[..., Stackformer]
Draw = Callable[..., tuple[Tensor, Tensor, Tensor]]
PLAIN = Truncation(temperature=1.0, top_k=0, top_p=1.0)
SETTINGS = SamplingSettings(guidance_scale=1.0, code=PLAIN, position=PLAIN)
TEXT: dict[str, object] = {"condition": "text", "condition_length": 3, "condition_vocab": 5}
MODERN: dict[str, object] = {"block": "modern", "code_layers": 3, "position_layers": 2}
close = partial(torch.testing.assert_close, rtol=0.0, atol=1e-10)


def rows(batch: int, length: int = 1) -> Tensor:
    return torch.arange(batch * length).reshape(batch, length) % 3


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("changes", [{}, TEXT, {"num_kept": 1}, {"num_kept": 9}, MODERN, MODERN | TEXT])
def test_cached_logits_equal_full_recomputation_at_every_step(
    build: Build, sequences: Draw, changes: dict[str, object], guidance: float
) -> None:
    model = build(**changes)
    codes, positions, condition = sequences(model)
    given_, null = model(codes, positions, condition), model(codes, positions, model.null_condition(3))
    code_logits = null.code_logits_BNK + guidance * (given_.code_logits_BNK - null.code_logits_BNK)
    position_logits = null.position_logits_BNL + guidance * (
        given_.position_logits_BNL - null.position_logits_BNL
    )
    state = CachedStackformer(model, 3, guidance)
    state.start(condition)
    memory = PositionMemory(model.config, 3, torch.device("cpu"))
    for n in range(model.config.num_kept):
        close(state.code_logits(), code_logits[:, n])
        support = memory.support()
        assert torch.equal(support, model.support(positions)[:, n])
        got = state.position_logits(codes[:, n])
        close(got[support], position_logits[:, n][support])
        memory.take(positions[:, n])
        if n + 1 < model.config.num_kept:
            state.advance(codes[:, n], positions[:, n])


SHARP = Truncation(temperature=0.8, top_k=5, top_p=0.9)


@pytest.mark.parametrize("support", ["ascending", "unused"])
@pytest.mark.parametrize("guidance", [1.0, 1.7])
@pytest.mark.parametrize("changes", [{}, TEXT, MODERN | TEXT])
def test_samples_equal_algorithm_1_written_out(
    build: Build, changes: dict[str, object], guidance: float, support: str
) -> None:
    model = build(position_support=support, **changes)
    settings = SamplingSettings(guidance, SHARP, Truncation(temperature=1.3, top_k=7, top_p=0.95))
    condition = rows(4, model.config.condition_length)
    got = sample(model, condition, [5, 6, 7, 8], settings)
    for b in range(4):
        codes, positions = literal_algorithm_1(model, condition[b].tolist(), 5 + b, settings)
        assert (got.codes_BN[b].tolist(), got.positions_BN[b].tolist()) == (codes, positions)


@pytest.mark.parametrize("kept", [1, 5, 8, 9])
def test_sampled_positions_are_distinct_and_ascend(build: Build, kept: int) -> None:
    model = build(num_kept=kept)
    positions = sample(model, rows(40), range(40), SETTINGS).positions_BN
    assert positions.shape == (40, kept)
    assert (positions.diff(dim=1) > 0).all()
    assert positions.min() >= 0 and positions.max() < 9


def test_unused_positions_are_distinct_and_may_fall(build: Build) -> None:
    model = build(position_support="unused", num_kept=9)
    positions = sample(model, rows(20), range(20), SETTINGS).positions_BN
    assert torch.equal(positions.sort(dim=1).values, torch.arange(9).expand(20, 9))
    assert (positions.diff(dim=1) < 0).any()


@given(st.integers(1, 12), st.data())
def test_ascending_support_has_no_dead_end_whatever_the_logits(length: int, data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, length))
    network = NetworkConfig(4, 1, 1, 1, 0.0, "ascending")
    memory = PositionMemory(StackformerConfig(network, 2, length, kept, "none", 1, 1), 1, torch.device("cpu"))
    taken = []
    for _ in range(kept):
        logits = torch.tensor([data.draw(st.lists(st.floats(-1e4, 1e4), min_size=length, max_size=length))])
        uniform = torch.tensor([data.draw(st.floats(0, 1, exclude_max=True))], dtype=torch.float64)
        support = memory.support()
        assert support.any()
        position = draw(logits.masked_fill(~support, -torch.inf), PLAIN, uniform)
        assert support[0, position]
        memory.take(position)
        taken.append(int(position))
    assert taken == sorted(set(taken)) and len(taken) == kept


@given(
    st.lists(st.sampled_from([-torch.inf, -3.0, -0.5, 0.0, 0.25, 2.0, 9.0]), min_size=1, max_size=9),
    st.floats(0.05, 5),
    st.integers(0, 10),
    st.floats(0.01, 1),
    st.floats(0, 1, exclude_max=True),
)
def test_a_draw_equals_the_choice_written_out(
    values: list[float], temperature: float, top_k: int, top_p: float, uniform: float
) -> None:
    values = [*values, 1.0]
    truncation = Truncation(temperature, top_k, top_p)
    logits = torch.tensor(values, dtype=torch.float64)
    got = int(draw(logits[None], truncation, torch.tensor([uniform], dtype=torch.float64)))
    near = {
        literal_choice(logits, truncation, min(max(uniform + shift, 0.0), 1 - 1e-16))
        for shift in (-1e-9, 0.0, 1e-9)
    }
    nearby = {
        literal_choice(logits, Truncation(temperature, top_k, min(1.0, top_p + s)), uniform)
        for s in (-1e-9, 1e-9)
    }
    assert got in near | nearby


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(20_000, 4)
    uniform = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    shares = draw(logits, PLAIN, uniform).bincount(minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.2, 0.3, 0.4]), rtol=0, atol=1e-4)


def test_top_p_keeps_the_fewest_that_reach_it_and_top_k_the_first() -> None:
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log().expand(1_000, 4)
    uniform = (torch.arange(1_000, dtype=torch.float64) + 0.5) / 1_000
    assert set(draw(logits, Truncation(1.0, 0, 0.6), uniform).tolist()) == {0, 1}
    assert set(draw(logits, Truncation(1.0, 3, 1.0), uniform).tolist()) == {0, 1, 2}
    assert set(draw(logits, Truncation(1.0, 3, 0.5), uniform).tolist()) == {0, 1}


@pytest.mark.parametrize("entries", [4096, 4097, 20_000])
def test_equal_entries_lie_in_their_order_at_any_size(entries: int) -> None:
    """CUDA sorts up to 4,096 entries one way and more another; both are stable, as this is."""
    uniform = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    logits = torch.zeros(64, entries)
    logits[:, 7] = -torch.inf  # not supported: the last
    drawn = draw(logits, PLAIN, uniform)
    expected = (uniform * (entries - 1)).long()
    assert torch.equal(drawn, expected + (expected >= 7))


def test_top_k_one_is_the_argmax(build: Build, sequences: Draw) -> None:
    model = build()
    greedy = Truncation(temperature=2.0, top_k=1, top_p=1.0)
    got = sample(model, rows(6), range(6), SamplingSettings(1.0, greedy, greedy))
    output = model(got.codes_BN, got.positions_BN, rows(6))
    assert torch.equal(got.codes_BN, output.code_logits_BNK.argmax(dim=-1))
    assert torch.equal(got.positions_BN, output.position_logits_BNL.argmax(dim=-1))


@pytest.mark.parametrize(("guidance", "null"), [(1.0, False), (0.0, True)])
def test_guidance_one_is_unguided_and_zero_ignores_the_condition(
    build: Build, guidance: float, null: bool
) -> None:
    model = build()
    condition = model.null_condition(8) if null else rows(8)
    plain = sample(model, condition, range(8), SETTINGS)
    got = sample(model, rows(8), range(8), SamplingSettings(guidance, PLAIN, PLAIN))
    assert torch.equal(got.codes_BN, plain.codes_BN) and torch.equal(got.positions_BN, plain.positions_BN)


def test_guidance_changes_nothing_where_there_are_no_conditions(build: Build) -> None:
    model = build(condition="none", condition_vocab=1)
    condition = torch.zeros(5, 1, dtype=torch.int64)
    got = sample(model, condition, range(5), SamplingSettings(3.0, PLAIN, PLAIN))
    assert torch.equal(got.codes_BN, sample(model, condition, range(5), SETTINGS).codes_BN)


def test_an_image_depends_on_its_own_seed_and_condition_alone(build: Build) -> None:
    model = build()
    together = sample(model, rows(6), range(6), SETTINGS)
    for size in (1, 2, 3):
        parts = [
            sample(model, rows(6)[i : i + size], range(i, i + size), SETTINGS) for i in range(0, 6, size)
        ]
        assert torch.equal(torch.cat([part.codes_BN for part in parts]), together.codes_BN)
        assert torch.equal(torch.cat([part.positions_BN for part in parts]), together.positions_BN)
    reversed_ = sample(model, rows(6).flip(0), [5, 4, 3, 2, 1, 0], SETTINGS)
    assert torch.equal(reversed_.codes_BN.flip(0), together.codes_BN)
    assert not torch.equal(sample(model, rows(6), range(6, 12), SETTINGS).codes_BN, together.codes_BN)


def test_noise_is_equal_across_batch_sizes() -> None:
    together = draw_uniform([3, 4, 5], 7)
    assert torch.equal(together[1:2], draw_uniform([4], 7))
    assert together.shape == (3, 7, 2) and (together >= 0).all() and (together < 1).all()


def test_logits_of_an_image_agree_across_batch_sizes_in_fp32(build: Build, sequences: Draw) -> None:
    model = build(num_kept=9).float()
    codes, positions, condition = sequences(model, batch=64)
    together = model(codes, positions, condition)
    alone = [model(codes[i : i + 1], positions[i : i + 1], condition[i : i + 1]) for i in range(64)]
    for name in ("code_logits_BNK", "position_logits_BNL"):
        parts = torch.cat([getattr(output, name) for output in alone])
        torch.testing.assert_close(parts, getattr(together, name), rtol=0, atol=1e-5)


def test_raster_gpt_samples_every_position_in_order(build: Build) -> None:
    model = build(num_positions=4, num_kept=4, position_layers=0)
    got = sample(model, rows(3), range(3), SETTINGS)
    assert torch.equal(got.positions_BN, torch.arange(4).expand(3, 4))
    output = model(got.codes_BN, got.positions_BN, rows(3))
    noise = draw_uniform(range(3), 4)
    for b, n in itertools.product(range(3), range(4)):
        assert (
            literal_choice(output.code_logits_BNK[b, n], PLAIN, float(noise[b, n, 0])) == got.codes_BN[b, n]
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.0, 0, 1.0), "temperature is 0.0, expected > 0"),
        ((1.0, -1, 1.0), "top_k is -1, expected ≥ 0"),
        ((1.0, 0, 0.0), "top_p is 0.0, expected 0 < top_p ≤ 1"),
        ((1.0, 0, 1.5), "top_p is 1.5"),
    ],
)
def test_truncations_out_of_range_are_refused(values: tuple[float, int, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Truncation(*values)


def test_a_model_in_training_and_missing_seeds_are_refused(build: Build) -> None:
    with pytest.raises(ValueError, match="expected eval mode"):
        sample(build().train(), rows(2), [1, 2], SETTINGS)
    with pytest.raises(ValueError, match="1 seeds, 2 conditions"):
        sample(build(), rows(2), [1], SETTINGS)
    with pytest.raises(ValueError, match="expected one seed and one condition per image, 3 each"):
        Sampler(build(), 3, SETTINGS)(rows(2), [1, 2])
