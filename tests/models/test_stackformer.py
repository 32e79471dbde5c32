"""Stackformer's equations, its supports, its sizes."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.stackformer import NetworkConfig, Stackformer, StackformerConfig
from tests.models.literal_stackformer import (
    literal_code_logits,
    literal_position_logits,
    literal_support,
    literal_u_c,
    masked,
)

Build = Callable[..., Stackformer]
Draw = Callable[..., tuple[Tensor, Tensor, Tensor]]
TEXT: dict[str, object] = {"condition": "text", "condition_length": 3, "condition_vocab": 5}
CONDITIONS: list[dict[str, object]] = [{}, TEXT, {"condition": "none", "condition_vocab": 1}]
close = partial(torch.testing.assert_close, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("changes", CONDITIONS)
def test_inputs_are_code_plus_position_plus_absolute_embedding(
    build: Build, sequences: Draw, changes: dict[str, object]
) -> None:
    model = build(**changes)
    codes, positions, condition = sequences(model)
    got = torch.cat(
        [
            model.embed_condition(condition),
            model.embed(codes[:, :-1], positions[:, :-1], model.e_t.weight[condition.shape[1] :]),
        ],
        dim=1,
    )
    for b in range(len(codes)):
        expected = literal_u_c(
            model, condition[b].tolist(), codes[b, :-1].tolist(), positions[b, :-1].tolist()
        )
        close(got[b], expected)


@pytest.mark.parametrize("support", ["ascending", "unused"])
@pytest.mark.parametrize(
    "changes", [*CONDITIONS, {"block": "modern", **TEXT}, {"block": "modern", "num_positions": 8}]
)
def test_logits_equal_the_equations_recomputed_from_each_prefix(
    build: Build, sequences: Draw, changes: dict[str, object], support: str
) -> None:
    model = build(position_support=support, **changes)
    codes, positions, condition = sequences(model)
    output = model(codes, positions, condition)
    for b, n in itertools.product(range(len(codes)), range(model.config.num_kept)):
        c, m, p = condition[b].tolist(), codes[b].tolist(), positions[b].tolist()
        close(output.code_logits_BNK[b, n], literal_code_logits(model, c, m[:n], p[:n]))
        expected = masked(literal_position_logits(model, c, m[: n + 1], p[:n]), literal_support(model, p[:n]))
        close(output.position_logits_BNL[b, n], expected)


def test_losses_are_mean_negative_log_probabilities_and_their_sum(build: Build, sequences: Draw) -> None:
    model = build()
    codes, positions, condition = sequences(model)
    output = model(codes, positions, condition)
    loss = model.loss(output, codes, positions)
    code, position, likelihood = [], [], []
    for b in range(len(codes)):
        log_p = torch.zeros((), dtype=torch.float64)
        for n in range(model.config.num_kept):
            p_code = torch.softmax(output.code_logits_BNK[b, n], 0)[codes[b, n]]
            p_position = torch.softmax(output.position_logits_BNL[b, n], 0)[positions[b, n]]
            code.append(-p_code.log())
            position.append(-p_position.log())
            log_p = log_p + p_code.log() + p_position.log()
        likelihood.append(log_p)
    torch.testing.assert_close(loss.code, torch.stack(code).mean())
    torch.testing.assert_close(loss.position, torch.stack(position).mean())
    torch.testing.assert_close(loss.total, torch.stack(code).mean() + torch.stack(position).mean())
    torch.testing.assert_close(loss.log_likelihood_B, torch.stack(likelihood))


@pytest.mark.parametrize("n", range(4))
def test_a_step_hears_no_later_code_or_position(build: Build, sequences: Draw, n: int) -> None:
    model = build(position_support="unused")
    codes, positions, condition = sequences(model)
    before = model(codes, positions, condition)
    other_codes, other_positions = codes.clone(), positions.clone()
    other_codes[:, n] = (codes[:, n] + 1) % model.config.num_codes
    after = model(other_codes, positions, condition)
    close(after.code_logits_BNK[:, : n + 1], before.code_logits_BNK[:, : n + 1])
    close(after.position_logits_BNL[:, :n], before.position_logits_BNL[:, :n])
    assert (after.position_logits_BNL[:, n] != before.position_logits_BNL[:, n]).any(), (
        "the current code is heard"
    )
    unused = [min(set(range(9)) - set(row.tolist())) for row in positions]
    other_positions[:, n] = torch.tensor(unused)
    moved = model(codes, other_positions, condition)
    close(moved.code_logits_BNK[:, : n + 1], before.code_logits_BNK[:, : n + 1])
    close(moved.position_logits_BNL[:, : n + 1], before.position_logits_BNL[:, : n + 1])
    if n + 1 < model.config.num_kept:
        assert (moved.code_logits_BNK[:, n + 1] != before.code_logits_BNK[:, n + 1]).any(), (
            "positions are heard later"
        )


def test_position_loss_trains_the_code_transformer(build: Build, sequences: Draw) -> None:
    model = build()
    codes, positions, condition = sequences(model)
    model.loss(model(codes, positions, condition), codes, positions).position.backward()
    assert all(
        weight.grad.abs().sum() > 0
        for weight in model.code_transformer.blocks.parameters()
        if weight.ndim == 2
    )
    assert model.code_head.weight.grad is None


@pytest.mark.parametrize("kept", [1, 2, 4, 5])
def test_ascending_support_gives_all_sets_of_positions_probability_one_together(
    build: Build, kept: int
) -> None:
    model = build(num_positions=5, num_kept=kept)
    sets = torch.tensor(list(itertools.combinations(range(5), kept)))
    codes = torch.randint(6, (1, kept)).expand(len(sets), kept)
    condition = torch.zeros(len(sets), 1, dtype=torch.int64)
    output = model(codes, sets, condition)
    total = (-model.loss(output, codes, sets).position_BN.sum(dim=1)).exp().sum()
    torch.testing.assert_close(total, torch.tensor(1.0, dtype=torch.float64), rtol=0, atol=1e-12)


def test_codes_and_positions_together_have_probability_one(build: Build) -> None:
    model = build(num_codes=2, num_positions=3, num_kept=2)
    all_codes = list(itertools.product(range(2), repeat=2))
    pairs = list(itertools.product(all_codes, itertools.combinations(range(3), 2)))
    codes, positions = (torch.tensor([pair[part] for pair in pairs]) for part in (0, 1))
    output = model(codes, positions, torch.ones(len(pairs), 1, dtype=torch.int64))
    total = model.loss(output, codes, positions).log_likelihood_B.exp().sum()
    torch.testing.assert_close(total, torch.tensor(1.0, dtype=torch.float64), rtol=0, atol=1e-12)


def test_unused_support_masks_the_positions_taken_before_and_nothing_else(
    build: Build, sequences: Draw
) -> None:
    model = build(position_support="unused")
    codes, positions, condition = sequences(model)
    logits = model(codes, positions, condition).position_logits_BNL
    for b, n in itertools.product(range(len(codes)), range(4)):
        blocked = {p for p in range(9) if logits[b, n, p] == -math.inf}
        assert blocked == set(positions[b, :n].tolist())


def test_keeping_every_position_leaves_one_choice_and_no_loss(build: Build, sequences: Draw) -> None:
    model = build(num_positions=4, num_kept=4)
    codes, positions, condition = sequences(model)
    loss = model.loss(model(codes, positions, condition), codes, positions)
    assert (loss.position_BN == 0).all()


def test_no_position_layers_is_a_raster_gpt_with_the_same_code_loss(build: Build, sequences: Draw) -> None:
    torch.manual_seed(0)
    raster = build(num_positions=4, num_kept=4, position_layers=0)
    stacked = build(num_positions=4, num_kept=4)
    stacked.load_state_dict(stacked.state_dict() | raster.state_dict())
    codes, positions, condition = sequences(raster)
    output = raster(codes, positions, condition)
    assert output.position_logits_BNL is None
    got = raster.loss(output, codes, positions)
    expected = stacked.loss(stacked(codes, positions, condition), codes, positions)
    torch.testing.assert_close(got.total, expected.total)
    assert not any(name.startswith("position_transformer") for name in raster.state_dict())


@pytest.mark.parametrize(("layers", "millions"), [((18, 6), 307.3), ((36, 12), 609.6)])
def test_parameter_counts_at_the_papers_sizes(layers: tuple[int, int], millions: float) -> None:
    """The paper prints 307 M and 607 M."""
    network = NetworkConfig(
        width=1024,
        heads=16,
        code_layers=layers[0],
        position_layers=layers[1],
        dropout=0.1,
        position_support="ascending",
    )
    with torch.device("meta"):
        model = Stackformer(StackformerConfig(network, 1024, 1024, 768, "none", 1, 1))
    assert round(sum(weight.numel() for weight in model.parameters()) / 1e6, 1) == millions


def test_null_condition_is_a_code_of_its_own_or_sos(build: Build, sequences: Draw) -> None:
    model = build(**TEXT)
    assert model.null_condition(2).tolist() == [[5, 5, 5], [5, 5, 5]]
    assert build(condition="none", condition_vocab=1).null_condition(1).tolist() == [[0]]
    codes, positions, condition = sequences(model)
    given, null = model(codes, positions, condition), model(codes, positions, model.null_condition(3))
    assert not torch.allclose(given.code_logits_BNK, null.code_logits_BNK)


def test_dropout_acts_in_training_alone(build: Build, sequences: Draw) -> None:
    model = build(dropout=0.5)
    inputs = sequences(model)
    torch.testing.assert_close(model(*inputs).code_logits_BNK, model(*inputs).code_logits_BNK)
    model.train()
    assert not torch.allclose(model(*inputs).code_logits_BNK, model(*inputs).code_logits_BNK)


def test_bf16_logits_are_masked_and_scored_in_fp32(build: Build, sequences: Draw) -> None:
    model = build().float()
    codes, positions, condition = sequences(model)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(codes, positions, condition)
        loss = model.loss(output, codes, positions)
    assert output.position_logits_BNL.dtype == loss.code_BN.dtype == torch.float32
    exact = model.loss(model(codes, positions, condition), codes, positions)
    torch.testing.assert_close(loss.total, exact.total, rtol=0.05, atol=0.05)


def test_published_weights_come_back_the_same(build: Build, sequences: Draw, tmp_path: Path) -> None:
    model = build(**TEXT)
    inputs = sequences(model)
    model.save_pretrained(tmp_path)
    again = Stackformer.from_pretrained(tmp_path)
    assert again.config == model.config
    torch.testing.assert_close(
        again(*inputs).position_logits_BNL, model(*inputs).position_logits_BNL, rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 9}, "width 9 is not a multiple of heads 2"),
        ({"dropout": 1.0}, "dropout is 1.0, expected 0 ≤ dropout < 1"),
        ({"code_layers": 0}, "code_layers is 0"),
        ({"position_layers": -1}, "position_layers is -1"),
        ({"num_kept": 10}, "num_kept is 10, expected at most num_positions 9"),
        ({"position_layers": 0}, "position_layers is 0, and 4 of 9 positions are kept"),
        ({"condition_length": 2}, "condition_length is 2, expected 1 unless condition is text"),
        ({"condition": "none"}, "condition_vocab is 3, expected 1"),
        ({"num_codes": 0}, "num_codes is 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(build: Build, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**changes)
