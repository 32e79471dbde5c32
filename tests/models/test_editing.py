"""Drawing a part of an image again, against the likelihood of every completion of a tiny model."""

import itertools
from collections import defaultdict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.sampling import SamplingSettings, Truncation, sample
from models.sampling.editing import Editor, Redrawn, Staying
from models.stackformer import Stackformer

Build = Callable[..., Stackformer]
Completion = tuple[tuple[int, ...], tuple[int, ...]]
ALL = Truncation(temperature=1.0, top_k=0, top_p=1.0)
SHARP = Truncation(temperature=0.8, top_k=3, top_p=0.9)
PLAIN = SamplingSettings(1.0, ALL, ALL)
TINY: dict[str, object] = {"num_codes": 2, "num_positions": 5, "num_kept": 3}
DRAWS = 5000
CLASS = torch.tensor([[1]])


def staying(kept: dict[int, int], free: set[int], cells: int = 5) -> Staying:
    """Position → code of what stays, and the free cells."""
    codes, positions = torch.tensor([*kept.values()]).long(), torch.tensor([*kept]).long()
    return Staying(codes, positions, torch.tensor([cell in free for cell in range(cells)]))


MIDDLE = staying({2: 1}, {0, 1, 3, 4})
"""A code that stays in the middle: new ones may come before it and after it."""
PREFIX = staying({0: 1}, {2, 3, 4})
"""Cell 1 is neither free nor taken: it stays empty."""
CASES = {"middle": MIDDLE, "prefix": PREFIX, "last": staying({4: 0}, {0, 1, 3}), "all": staying({}, {*range(5)})}  # fmt: skip


def log_likelihood(model: Stackformer, codes: Tensor, positions: Tensor) -> Tensor:
    """log p of sequences [B, N]."""
    condition = CLASS.expand(len(codes), -1)
    return model.loss(model(codes, positions, condition), codes, positions).log_likelihood_B


def conditional(model: Stackformer, stays: Staying) -> dict[Completion, float]:
    """p(completion | what stays), by enumeration of every one."""
    kept = dict(zip(stays.positions_Q.tolist(), stays.codes_Q.tolist(), strict=True))
    count = model.config.num_kept - len(kept)
    found = []
    for cells in itertools.combinations(stays.free_L.nonzero()[:, 0].tolist(), count):
        for codes in itertools.product(range(model.config.num_codes), repeat=count):
            tokens = sorted({**kept, **dict(zip(cells, codes, strict=True))}.items())
            found.append((tuple(code for _, code in tokens), tuple(cell for cell, _ in tokens)))
    codes, positions = (torch.tensor(part) for part in zip(*found, strict=True))
    with torch.no_grad():
        p = log_likelihood(model, codes, positions).softmax(dim=0)
    return dict(zip(found, p.tolist(), strict=True))


def redraw(
    model: Stackformer, stays: Staying, count: int, candidates: int = 1, settings: SamplingSettings = PLAIN
) -> Redrawn:
    """Many draws from seeds of their own."""
    seeds = torch.arange(count * candidates).mul(7919).view(count, candidates).tolist()
    return Editor(model, stays, settings, candidates)(CLASS.expand(count, -1), seeds)


def completions(drawn: Redrawn) -> list[Completion]:
    """Of each draw."""
    rows = zip(drawn.codes_BN.tolist(), drawn.positions_BN.tolist(), strict=True)
    return [(tuple(codes), tuple(positions)) for codes, positions in rows]


def frequencies(drawn: Redrawn) -> dict[Completion, float]:
    """How often each completion was drawn."""
    found: dict[Completion, float] = defaultdict(float)
    for completion in completions(drawn):
        found[completion] += 1 / len(drawn.codes_BN)
    return found


def distance(p: dict[Completion, float], q: dict[Completion, float]) -> float:
    """Total variation."""
    return sum(abs(p.get(x, 0.0) - q.get(x, 0.0)) for x in p.keys() | q.keys()) / 2


def proposal(model: Stackformer, stays: Staying) -> dict[Completion, tuple[float, float]]:
    """Every completion with its weight w and q = p / w, the probability that it is drawn: from one that draws each."""
    drawn = redraw(model, stays, DRAWS)
    with torch.no_grad():
        log_p = log_likelihood(model, drawn.codes_BN, drawn.positions_BN)
    q = (log_p - drawn.log_weight_BM[:, 0]).exp()
    rows = zip(completions(drawn), drawn.log_weight_BM[:, 0].exp().tolist(), q.tolist(), strict=True)
    return {completion: (weight, chance) for completion, weight, chance in rows}


@pytest.mark.parametrize("changes", [{}, {"block": "modern", "position_support": "unused"}])
@pytest.mark.parametrize("name", ["middle", "last"])
def test_the_weights_are_exact(build: Build, name: str, changes: dict[str, object]) -> None:
    """p = w q for every completion, with a q that sums to 1 and is how often it is drawn: means of w f are sums of p f."""
    model, stays = build(3, **TINY, **changes), CASES[name]
    for head in (model.code_head, model.position_head):
        head.weight.data.mul_(0.5)  # so that no completion is too rare to be among the draws
    found, target = proposal(model, stays), conditional(model, stays)
    assert found.keys() == target.keys()
    assert abs(sum(q for _, q in found.values()) - 1) < 1e-9
    total = sum(w * q for w, q in found.values())
    assert all(abs(w * q / total - target[x]) < 1e-9 for x, (w, q) in found.items())
    assert distance(frequencies(redraw(model, stays, DRAWS)), {x: q for x, (_, q) in found.items()}) < 0.04


@pytest.mark.parametrize("name", ["prefix", "all"])
def test_after_a_prefix_each_draw_is_from_the_exact_conditional(build: Build, name: str) -> None:
    model, stays = build(**TINY), CASES[name]
    assert stays.is_prefix and not MIDDLE.is_prefix
    drawn = redraw(model, stays, DRAWS)
    log_weight = drawn.log_weight_BM[:, 0]
    torch.testing.assert_close(log_weight, log_weight[:1].expand(DRAWS), rtol=0, atol=1e-10)
    assert distance(frequencies(drawn), conditional(model, stays)) < 0.04


def resampled(found: dict[Completion, tuple[float, float]], candidates: int) -> dict[Completion, float]:
    """The exact distribution of the one that is taken of M candidates, summed over all of their combinations."""
    rows = list(found.items())
    weight = torch.tensor([w for _, (w, _) in rows], dtype=torch.float64)
    chance = torch.tensor([q for _, (_, q) in rows], dtype=torch.float64)
    chance = chance / chance.sum()
    taken, total = chance * weight, weight
    for _ in range(candidates - 1):  # all places are alike: M times the chance that the first one is taken
        taken, total = taken[..., None] * chance, total[..., None] + weight
    p = candidates * (taken / total).flatten(1).sum(dim=1) if candidates > 1 else chance
    return {x: float(value) for (x, _), value in zip(rows, p, strict=True)}


def test_with_more_candidates_the_draw_tends_to_the_exact_conditional(build: Build) -> None:
    model, stays = build(3, **TINY), MIDDLE
    found, target = proposal(model, stays), conditional(model, stays)
    far = [distance(resampled(found, m), target) for m in (1, 2, 3)]
    assert far[0] > 0.1 and far[0] > 1.3 * far[1] > 1.3 * far[2], far
    assert distance(frequencies(redraw(model, stays, 3000, 3)), resampled(found, 3)) < 0.05
    many = redraw(model, stays, 1500, 48)
    assert distance(frequencies(many), target) < 0.06
    assert ((many.effective_B >= 1) & (many.effective_B <= 48)).all()


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("changes", [{}, {"block": "modern", "position_layers": 2}])
def test_where_nothing_stays_the_image_is_that_of_sample(
    build: Build, changes: dict[str, object], guidance: float
) -> None:
    model, settings = build(**changes), SamplingSettings(guidance, SHARP, SHARP)
    condition = torch.arange(6)[:, None] % 3
    drawn = Editor(model, staying({}, {*range(9)}, 9), settings)(condition, [[seed] for seed in range(6)])
    expected = sample(model, condition, range(6), settings)
    assert torch.equal(drawn.codes_BN, expected.codes_BN)
    assert torch.equal(drawn.positions_BN, expected.positions_BN)


@pytest.mark.parametrize("candidates", [1, 3])
@pytest.mark.parametrize("settings", [PLAIN, SamplingSettings(2.0, SHARP, SHARP)])
def test_what_stays_is_in_every_draw_and_the_rest_is_free(
    build: Build, settings: SamplingSettings, candidates: int
) -> None:
    model, stays = build(num_positions=16, num_kept=7), staying({1: 5, 6: 0, 10: 2}, {4, 5, 7, 8, 12}, 16)
    drawn = redraw(model, stays, 40, candidates, settings)
    assert (drawn.positions_BN.diff(dim=1) > 0).all()
    for codes, positions in completions(drawn):
        told = dict(zip(positions, codes, strict=True))
        assert {place: told[place] for place in (1, 6, 10)} == {1: 5, 6: 0, 10: 2}
        assert told.keys() - {1, 6, 10} <= {4, 5, 7, 8, 12}
    assert len(set(completions(drawn))) > 10


def test_where_all_cells_are_kept_only_codes_are_drawn(build: Build) -> None:
    model = build(num_positions=4, num_kept=4, position_layers=0)
    drawn = redraw(model, staying({0: 1, 3: 2}, {1, 2}, 4), 30, 2)
    assert torch.equal(drawn.positions_BN, torch.arange(4).expand(30, 4))
    assert (drawn.codes_BN[:, [0, 3]] == torch.tensor([1, 2])).all()
    assert len(drawn.codes_BN.unique(dim=0)) > 5


@pytest.mark.parametrize(
    ("stays", "message"),
    [
        (staying({0: 1, 1: 1, 2: 1}, {3}), "nothing to draw again"),
        (staying({0: 1}, {3}), "2 codes are to be drawn, and 1 cells are free"),
        (staying({0: 1}, {0, 2}), "not to be free"),
        (staying({0: 1}, {1, 2}, 7), "expected 5 cells, free or not; got 7"),
    ],
)
def test_what_cannot_be_drawn_is_refused(build: Build, stays: Staying, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Editor(build(**TINY), stays, PLAIN)
