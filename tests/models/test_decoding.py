"""The fast path is the slow one: packed linear maps, cached attention, masked buckets, in every precision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.sampling import CachedStackformer, Sampler, SamplingSettings, Truncation
from models.sampling.decoding import DecodingTransformer, Projection, packs
from models.stackformer import Stackformer
from models.stackformer.transformer import BlockKind, transformer

Build = Callable[..., Stackformer]
Draw = Callable[..., tuple[Tensor, Tensor, Tensor]]
SHARP = Truncation(temperature=0.9, top_k=0, top_p=0.9)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}
DTYPES = list(TOLERANCE)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rows", [1, 3, 32])
@pytest.mark.parametrize("bias", [True, False])
def test_a_projection_equals_its_linear_map_for_any_number_of_rows(
    dtype: torch.dtype, rows: int, bias: bool
) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(48, 40, bias=bias).to(dtype)
    projection = Projection(linear, rows=8)
    assert projection.packed == (packs(linear.weight) and dtype != torch.float64)
    x, total = torch.randn(2, rows, 48).to(dtype), torch.randn(2, rows, 40).to(dtype)
    exact = functional.linear(x.double(), linear.weight.double(), linear.bias.double() if bias else None)
    for got, expected in (
        (projection(x), exact),
        (projection.gelu(x), functional.gelu(exact)),
        (projection.relu_squared(x), functional.relu(exact).square()),
        (projection.added_to(total, x), total.double() + exact),
    ):
        torch.testing.assert_close(got.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("first", "spare"), [(1, 0), (3, 0), (1, 5), (3, 2)])
@pytest.mark.parametrize("kind", ["gpt", "modern"])
@torch.no_grad()
def test_tokens_one_by_one_give_what_whole_sequences_give(
    kind: BlockKind, dtype: torch.dtype, first: int, spare: int
) -> None:
    torch.manual_seed(0)
    whole = transformer(kind, 16, 2, 3, 0.0, 9)
    for weight in whole.parameters():
        weight.data.add_(0.1 * torch.randn_like(weight))
    whole = whole.to(dtype).eval()
    u, places = torch.randn(4, 7, 16).to(dtype), torch.randint(10, (4, 7))
    stepwise = DecodingTransformer(whole, rows=4, length=7 + spare)
    parts = [stepwise(u[:, :first], places[:, :first], torch.arange(first), first)]
    for time in range(first, 7):
        reach = time + 1 + spare
        mask = (torch.arange(reach) <= time)[None] if spare else None
        parts.append(
            stepwise(u[:, time : time + 1], places[:, time : time + 1], torch.tensor([time]), reach, mask)
        )
    expected = whole.double()(u.double(), places)
    torch.testing.assert_close(torch.cat(parts, dim=1).double(), expected, rtol=0, atol=5 * TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("dtype", "kept_as"),
    [
        (torch.float32, None),
        (torch.float32, torch.bfloat16),
        (torch.bfloat16, None),
        (torch.bfloat16, torch.bfloat16),
    ],
    ids=str,
)
@torch.no_grad()
def test_cached_logits_agree_with_full_recomputation_in_the_precisions_of_use(
    build: Build, sequences: Draw, dtype: torch.dtype, kept_as: torch.dtype | None
) -> None:
    exact = build(width=32, num_codes=20, num_positions=16, num_kept=10)
    codes, positions, condition = sequences(exact)
    whole = exact(codes, positions, condition)
    state = CachedStackformer(exact.to(dtype), 3, guidance_scale=1.0, kept_as=kept_as)
    state.start(condition)
    tolerance = 1e-4 if (dtype, kept_as) == (torch.float32, None) else 0.25
    for n in range(10):
        torch.testing.assert_close(
            state.code_logits().double(), whole.code_logits_BNK[:, n], rtol=0, atol=tolerance
        )
        state.position_logits(codes[:, n])
        if n < 9:
            state.advance(codes[:, n], positions[:, n])


@pytest.mark.parametrize("bucket", [2, 4, 64])
@pytest.mark.parametrize(
    "changes", [{}, {"condition": "text", "condition_length": 3, "condition_vocab": 5}, {"num_kept": 9}]
)
def test_steps_that_read_masked_buckets_draw_the_same(
    build: Build, bucket: int, changes: dict[str, object]
) -> None:
    """What is captured on a GPU, without the capture."""
    model = build(**changes)
    settings = SamplingSettings(1.7, SHARP, SHARP)
    condition = torch.arange(4 * model.config.condition_length).reshape(4, -1) % 3
    exact = Sampler(model, 4, settings)(condition, range(4))
    masked = Sampler(model, 4, settings, bucket)(condition, range(4))
    assert torch.equal(masked.codes_BN, exact.codes_BN)
    assert torch.equal(masked.positions_BN, exact.positions_BN)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_sampler_draws_the_same_bytes_again_and_after_other_batches(
    build: Build, dtype: torch.dtype
) -> None:
    model = build(num_kept=9).to(dtype)
    sampler = Sampler(model, 5, SamplingSettings(1.7, SHARP, SHARP))
    condition = torch.arange(5)[:, None] % 3
    first = sampler(condition, range(5))
    sampler(condition, range(5, 10))
    again, fresh = sampler(condition, range(5)), Sampler(model, 5, sampler.settings)(condition, range(5))
    for other in (again, fresh):
        assert torch.equal(first.codes_BN, other.codes_BN)
        assert torch.equal(first.positions_BN, other.positions_BN)
