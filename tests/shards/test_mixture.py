"""Laws of mixed sets: each weight is kept in every window, each set in its own order, and the step is the whole state."""

import errno
import os
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.images import ImageShards
from shards.mixture.images import Mixture
from shards.mixture.schedule import MOST_PARTS, MixedOrder, schedule, shares_of
from tests.committed import ROOT
from tests.shards.making import labelled_images, make_shards
from tests.training.test_mqvae_training import TRAINING, Alone
from training.mqvae.batches import ImageBatches
from training.mqvae.module import ImageBatch
from workflow.params import load_params
from workflow.watched import tell_unwatched
from workspace.code import rewritten
from workspace.errors import UserError, told_in_a_line
from workspace.exact.order import DataOrder
from workspace.stores.opening import MissingError

SETS = ((4, 3), (5,), (2, 2, 1))
"""Samples in each tar of three sets: 7, 5 and 5."""
SHARES = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@given(SHARES)
def test_every_beginning_has_each_set_as_often_as_its_weight_says(shares: list[int]) -> None:
    sets, parts = schedule(shares), sum(shares)
    counts = np.cumsum(sets[:, None] == np.arange(len(shares)), axis=0)
    for t in range(1, parts + 1):
        for count, share in zip(counts[t - 1], shares, strict=True):
            assert t * share // parts <= count <= -(-t * share // parts)


@given(SHARES, st.integers(0, 500), st.integers(1, 60))
def test_any_window_has_each_set_within_two_of_its_share(shares: list[int], first: int, count: int) -> None:
    order = MixedOrder(0, [(3,)] * len(shares), 1, shares)
    chosen, _ = order.places(first, count)
    for k, share in enumerate(shares):
        assert abs((chosen == k).sum() - Fraction(count * share, sum(shares))) < 2


@given(st.integers(0, 99), st.tuples(*[st.integers(1, 9)] * 3), st.integers(1, 7))
def test_each_set_is_read_in_its_own_order_epoch_after_epoch(
    seed: int, weights: tuple[int, int, int], size: int
) -> None:
    order = MixedOrder(seed, SETS, 2, weights)
    found = [pair for step in range(12) for pair in order.batch(step, size)]
    for k, (own, start, end) in enumerate(zip(order.orders, order.starts, order.starts[1:], strict=False)):
        mine = [(epoch, index - start) for epoch, index in found if start <= index < end]
        assert mine == own.run(0, len(mine)), k
    assert order.orders[0].run(0, 9) == DataOrder(seed, SETS[0], 2).run(0, 9)


@given(st.integers(0, 99), st.integers(0, 300), st.integers(1, 9), st.floats(0.01, 50))
def test_a_batch_is_a_function_of_seed_and_step_alone(seed: int, step: int, size: int, weight: float) -> None:
    before = MixedOrder(seed, SETS, 2, (1.0, weight, 2.5))
    for earlier in range(max(0, step - 3), step):
        before.batch(earlier, size)
    alone = MixedOrder(seed, SETS, 2, (1.0, weight, 2.5))
    assert before.batch(step, size) == alone.batch(step, size)
    one = [pair for place in range(size) for pair in alone.batch(step * size + place, 1)]
    assert one == alone.batch(step, size)  # the batch size cuts the same sequence differently


@given(st.integers(0, 99), st.integers(0, 30), st.floats(0.01, 50))
def test_one_set_has_the_order_that_it_has_alone(seed: int, step: int, weight: float) -> None:
    assert MixedOrder(seed, SETS[:1], 2, (weight,)).batch(step, 5) == DataOrder(seed, SETS[0], 2).batch(
        step, 5
    )


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8))
@settings(max_examples=50)
def test_weights_become_whole_shares_within_a_part(weights: list[float]) -> None:
    shares = shares_of(weights)
    assert min(shares) >= 1 and sum(shares) <= MOST_PARTS
    for share, weight in zip(shares, weights, strict=True):
        error = abs(
            Fraction(share, sum(shares)) - Fraction(str(weight)) / sum(map(Fraction, map(str, weights)))
        )
        assert error <= Fraction(len(weights), MOST_PARTS)


def test_shares_are_the_weights_as_written_and_their_order_never_changes() -> None:
    """A resumed run reads the order again: these numbers may never change."""
    assert shares_of([0.7, 0.2, 0.1]) == (7, 2, 1) and shares_of([6, 2]) == (3, 1)
    assert schedule((3, 1)).tolist() == [0, 0, 0, 1]
    assert schedule((5, 3, 2)).tolist() == [0, 1, 0, 2, 0, 1, 0, 1, 0, 2]
    assert MixedOrder(0, SETS, 2, (2, 1, 1)).batch(1, 6) == [(0, 3), (0, 13), (0, 0), (0, 7), (0, 6), (0, 14)]
    with pytest.raises(ValueError, match="expected numbers > 0"):
        shares_of([1.0, 0.0])


@pytest.fixture
def two(tmp_path: Path) -> tuple[ImageShards, ImageShards]:
    first = labelled_images(tmp_path / "raw", 16)
    return make_shards(first, tmp_path / "one"), make_shards(first[4:], tmp_path / "two")


def test_a_mixture_reads_each_image_of_its_sets(two: tuple[ImageShards, ImageShards]) -> None:
    mixture = Mixture.chosen(two[0], [("a", two[0].folder, 3), ("b", two[1].folder, 1)])
    index = mixture.index()
    apart = [one.index("train").read(i) for one in two for i in range(one.count("train"))]
    assert len(index) == len(apart) == 21
    assert all(np.array_equal(index.read(i).image, apart[i].image) for i in range(len(index)))
    known = [one.manifest.fingerprint for one in two]
    assert mixture.fingerprints(two[0]) == {"sources.0": known[0], "sources.1": known[1]}


def test_one_set_is_read_and_named_as_without_a_mixture(two: tuple[ImageShards, ImageShards]) -> None:
    alone = Mixture.chosen(two[0], []), Mixture.chosen(two[0], [("a", two[0].folder, 7)])
    for one in alone:
        assert one.fingerprints(two[0]) == {} and isinstance(one.order(0, 16), DataOrder)
    other = Mixture.chosen(two[0], [("a", two[1].folder, 1)])
    assert other.fingerprints(two[0]) == {"sources.0": two[1].manifest.fingerprint}


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_and_a_resumed_run_get_the_same_images(
    two: tuple[ImageShards, ImageShards], workers: int
) -> None:
    mixture = Mixture.chosen(two[0], [("a", two[0].folder, 3), ("b", two[1].folder, 1)])
    plan = TRAINING.replaced(global_batch=8, micro_batch=2, steps=5)

    def steps(size: int, first: int) -> list[list[ImageBatch]]:
        """The micro-batches of each step, put together from all workers."""
        parts = [ImageBatches(mixture, plan, Alone(rank, size), 0) for rank in range(size)]
        return [
            sorted((batch for part in parts for batch in part(step)), key=lambda batch: batch.first)
            for step in range(first, plan.steps)
        ]

    for expected, found in zip(steps(1, 2), steps(workers, 2), strict=True):
        assert [one.first for one in found] == [0, 2, 4, 6]
        for one, other in zip(expected, found, strict=True):
            assert torch.equal(one.image_BCHW, other.image_BCHW) and one.seeds == other.seeds
    whole, later = steps(1, 0), steps(1, 3)
    assert all(torch.equal(a.image_BCHW, b.image_BCHW) for a, b in zip(whole[3], later[0], strict=True))


@pytest.mark.parametrize("loaders", [0, 1])
@pytest.mark.parametrize(
    "error",
    [UserError("a.tar was changed: run `dvc repro shard`"), MissingError("s3://a does not exist"),
     OSError(errno.EIO, "Input/output error", "a.tar")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_a_loader_process_meets_is_told_in_its_own_words(
    two: tuple[ImageShards, ImageShards], error: Exception, loaders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with the traceback that torch puts into the message of an error that it hands on."""

    def fails(self: object, item: int) -> None:
        raise error

    monkeypatch.setattr("shards.mixture.images.MixedIndex.read", fails)
    batches = ImageBatches(Mixture.chosen(two[0], []), TRAINING, Alone(), loaders)
    with pytest.raises(type(error)) as told:
        batches(0)
    assert str(told.value) == str(error) and told_in_a_line(told.value) is not None


def test_a_loader_process_that_dies_is_told_in_a_line(
    two: tuple[ImageShards, ImageShards], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a kernel that has no more memory."""
    monkeypatch.setattr(
        "shards.mixture.images.MixedIndex.read", lambda self, item: os.kill(os.getpid(), signal.SIGKILL)
    )
    batches = ImageBatches(Mixture.chosen(two[0], []), TRAINING, Alone(), 1)
    with pytest.raises(
        UserError,
        match=r"^a loader process died.* compute.loader_workers \(now 1\).*\(DataLoader worker .*\)$",
    ):
        batches(0)


def test_sets_that_do_not_fit_are_named_by_their_setting(
    two: tuple[ImageShards, ImageShards], tmp_path: Path
) -> None:
    own = two[0]
    larger = make_shards(labelled_images(tmp_path / "large", 8), tmp_path / "larger", size=16)
    with pytest.raises(UserError, match=r"^b: .* holds images of 16 px, and mqvae.model.image_size is 8"):
        Mixture.chosen(own, [("b", larger.folder, 1)])
    with pytest.raises(UserError, match=r"^b: .* is the same set as a; expected each once"):
        Mixture.chosen(own, [("a", own.folder, 1), ("b", own.folder, 1)])
    with pytest.raises(UserError, match=r"^b: .* holds no finished artifact"):
        Mixture.chosen(own, [("b", tmp_path, 1)])


def test_dvc_watches_the_manifests_of_the_sets() -> None:
    mqvae = {"sources": [{"shards": None}, {"shards": "data/web/"}, {"shards": "artifacts/shards"}]}
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    more, changed = rewritten(text, mqvae)
    deps = [yaml.safe_load(one)["stages"]["train_mqvae"]["deps"] for one in (text, more)]
    assert changed == ["train_mqvae"] and set(deps[1]) - set(deps[0]) == {"data/web/manifest.json"}
    others = text.replace(
        "      - artifacts/mqvae\n", "      - artifacts/mqvae\n      - mine/manifest.json\n", 1
    )
    assert others != text and rewritten(others) == rewritten(others, mqvae={"sources": []}) == (others, [])
    assert rewritten(more, mqvae) == (more, []) and rewritten(more, {"sources": []})[0] == text


def test_a_set_that_dvc_does_not_watch_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    params = load_params(ROOT / "presets" / "shapes.yaml", ["mqvae.sources=[{shards: data/web, weight: 1}]"])
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(text, encoding="utf-8")
    tell_unwatched(params, Path("params.yaml"))
    assert "dvc.yaml does not watch data/web/manifest.json: run `make deps`" in capsys.readouterr().err
    Path("dvc.yaml").write_text(rewritten(text, params.mqvae.model_dump(mode="json"))[0], encoding="utf-8")
    tell_unwatched(params, Path("params.yaml"))
    assert capsys.readouterr().err == ""
