"""Laws of tokenize.budget: as many cells of an image as reach a quality, or as are worth their codes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from cluster.shard_map import ShardJob
from inference.budgets import (
    Plan,
    chosen,
    decibels,
    encode_within,
    errors_at,
    kept_by_all,
    ladder_of,
    multiplier_for,
    quality_at_all,
)
from inference.encode import KeyedImages
from models.mqvae.model import OrderedCells
from settings.tokenize import Budget
from shards.images import ImageShards
from shards.images.pixels import to_tensor
from shards.tokens import flat_positions
from shards.verify import verify
from stages import tokenize
from tests.stages.test_tokenize import CONFIG, World, settings_of, write_images, write_mqvae
from workspace.errors import UserError
from workspace.exact.manifest import read_json

ANY = replace(CONFIG, kept="any")
SQUEEZENET = {"network": "squeezenet", "backbone": None, "heads": None}
LENGTH = ANY.num_positions


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Image shards, and an MQ-VAE for any number of cells."""
    root = tmp_path_factory.mktemp("world")
    write_images(root / "shards")
    return World(root, write_mqvae(root / "mqvae", ANY))


def curves(seed: int = 0, images: int = 200) -> NDArray[np.float64]:
    """PSNR at n = 1 … L of images that differ in how hard they are."""
    generator = np.random.default_rng(seed)
    errors = np.sort(10 ** generator.uniform(-4, -1, size=(images, 3)), axis=1)[:, ::-1]
    return quality_at_all(decibels(errors), [1, 4, LENGTH], LENGTH)


def test_each_image_is_stored_with_the_cells_that_it_was_given(world: World) -> None:
    made = world.run("rate", budget={"kind": "rate", "mask_ratio": 0.5, "rungs": 3})
    assert "images are intact, N = " in verify(made.folder)
    samples, block = world.samples("train"), made.load("train")
    image_BCHW = to_tensor(np.stack([sample.image for sample in samples]), world.model.mask_code_D.device)
    positions, row = flat_positions(block.kept, LENGTH), 0
    for image, count in enumerate(block.lengths):
        alone = world.model.tokenize(image_BCHW[image : image + 1], kept=int(count))
        np.testing.assert_array_equal(block.codes_of(image), alone.codes_BN[0])
        np.testing.assert_array_equal(positions[row : row + count], alone.positions_BN[0])
        row += count
    stated = read_json(world.root / "rate" / "metrics" / "metrics.json")
    assert stated["codes_per_image"] == pytest.approx(block.lengths.mean())


def test_a_fixed_budget_is_asked_for_when_tokens_are_made(world: World) -> None:
    made = world.run("fixed", budget={"kind": "fixed", "mask_ratio": 0.75})
    assert made.facts.num_kept == LENGTH // 4 and made.facts.fewest_kept is None
    assert world.run("own").facts.num_kept == ANY.num_kept


def test_a_resumed_run_takes_the_multiplier_that_it_had_found(world: World) -> None:
    budget = {"kind": "rate", "mask_ratio": 0.5, "rungs": 3}
    folder = world.folder("resumed")
    (folder.work / "multiplier.json").write_text('{"multiplier": 1e6}')
    assert world.run("resumed", budget=budget).load("train").lengths.max() == 1


def test_an_mqvae_of_one_n_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "shards")
    fixed = World(tmp_path, write_mqvae(tmp_path / "mqvae"))
    for budget, asked in (({"kind": "rate"}, "rate"), ({"kind": "fixed", "mask_ratio": 0.75}, "N = 4")):
        with pytest.raises(UserError, match=f"asks for {asked}, and the MQ-VAE was trained for N = 8 alone"):
            fixed.run(budget=budget)
    assert fixed.run(budget={"kind": "fixed", "mask_ratio": 0.5}).facts.num_kept == 8


@pytest.mark.parametrize("gain", ["mse", "psnr"])
@pytest.mark.parametrize("mean", [2.0, 8.0, 13.0])
def test_the_multiplier_keeps_the_mean_that_was_asked_for(gain: str, mean: float) -> None:
    budget = Budget(kind="rate", gain=gain)  # type: ignore[arg-type]
    psnr = curves()
    lengths = chosen(Plan(budget, multiplier_for(budget, psnr, mean)), psnr)
    assert mean - 0.25 <= lengths.mean() <= mean and lengths.std() > 0


@given(of=st.integers(1, 2 * LENGTH), kind=st.sampled_from(["quality", "rate"]), goal=st.floats(5, 60))
def test_lengths_are_multiples_and_the_best_of_these(
    of: int, kind: Literal["quality", "rate"], goal: float
) -> None:
    psnr = curves(images=20)
    budget = Budget(kind=kind, multiple_of=of, psnr=goal)
    lengths = chosen(Plan(budget, 10**-goal / 10), psnr)
    assert all(count % of == 0 or count == LENGTH for count in lengths)
    free = chosen(Plan(Budget(kind=kind, psnr=goal), 10**-goal / 10), psnr)
    if kind == "quality":
        np.testing.assert_array_equal(lengths, np.minimum(-(-free // of) * of, LENGTH))
    else:
        assert (lengths[free % of == 0] == free[free % of == 0]).all()


def test_no_other_lengths_of_the_same_mean_have_a_lower_error() -> None:
    budget, psnr = Budget(kind="rate"), curves()
    lengths = chosen(Plan(budget, multiplier_for(budget, psnr, 6.0)), psnr)
    errors = 10 ** (-psnr / 10)
    mine = np.take_along_axis(errors, lengths[:, None] - 1, axis=1).mean()
    generator = np.random.default_rng(0)
    for _ in range(200):
        other = generator.permutation(lengths)
        assert np.take_along_axis(errors, other[:, None] - 1, axis=1).mean() >= mine
    assert errors[:, int(lengths.mean()) - 1].mean() > mine


@given(goal=st.floats(5, 60))
def test_a_quality_is_reached_with_as_few_cells_as_can(goal: float) -> None:
    psnr = curves()
    lengths = chosen(Plan(Budget(kind="quality", psnr=goal)), psnr)
    for row, count in zip(psnr, lengths, strict=True):
        reached = np.flatnonzero(row >= goal)
        assert count == (reached[0] + 1 if len(reached) else LENGTH)


class Absolute:
    """A distance that needs no weights."""

    def to(self, device: torch.device) -> "Absolute":
        """Itself."""
        return self

    def distances(self, a_BCHW: Tensor, b_BCHW: Tensor) -> Tensor:
        """Of each pair."""
        return (a_BCHW - b_BCHW).abs().mean(dim=(1, 2, 3))


@pytest.mark.parametrize("budget", [{"kind": "quality", "distance": 0.4}, {"kind": "rate", "gain": "lpips"}])
def test_a_budget_by_a_perceptual_distance_keeps_what_that_distance_asks_for(
    world: World, budget: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenize, "load_lpips", lambda config, section: Absolute())
    asked = budget | {"mask_ratio": 0.5, "rungs": 3}
    made = world.run(str(budget["kind"]) + "-lpips", budget=asked, lpips=SQUEEZENET)
    block = made.load("train")
    stated = read_json(world.root / f"{budget['kind']}-lpips" / "metrics" / "metrics.json")
    plan = Plan(Budget.model_validate(asked), stated.get("rate_multiplier", 0.0))
    batch = KeyedImages.of(world.samples("train"), 0)
    alone = encode_within(world.model, batch, plan, lpips=Absolute().distances)
    np.testing.assert_array_equal(block.lengths, alone.lengths)
    assert (
        stated["lpips_estimated"] == pytest.approx(-alone.quality.mean()) and "psnr_estimated" not in stated
    )


@given(goal=st.floats(0.001, 1))
def test_a_distance_is_reached_with_as_few_cells_as_can(goal: float) -> None:
    distance = 10 ** (-curves() / 20)
    lengths = chosen(Plan(Budget(kind="quality", distance=goal)), -distance)
    for row, count in zip(distance, lengths, strict=True):
        reached = np.flatnonzero(row <= goal)
        assert count == (reached[0] + 1 if len(reached) else LENGTH)


def test_the_curve_meets_the_rungs_and_never_falls() -> None:
    errors = np.array([[1e-1, 1e-2, 2e-2]])
    psnr = quality_at_all(decibels(errors), [2, 4, 16], 16)
    assert psnr[0, 0] == -np.inf and psnr[0, [1, 3]] == pytest.approx([10.0, 20.0])
    assert (np.diff(psnr[0, 1:]) >= 0).all() and psnr[0, 15] == pytest.approx(20.0)


@given(length=st.integers(1, 1024), rungs=st.integers(3, 16))
def test_a_ladder_ascends_to_all_cells(length: int, rungs: int) -> None:
    ladder = ladder_of(length, rungs)
    assert ladder[0] >= 1 and ladder[-1] == length and len(ladder) <= rungs
    assert ladder == sorted(set(ladder))


def test_errors_are_those_of_reconstructions_from_prefixes(world: World) -> None:
    images = np.stack([sample.image for sample in world.samples("val")])
    image_BCHW = to_tensor(images, world.model.mask_code_D.device)
    cells: OrderedCells = world.model.tokenize_all(image_BCHW)
    found = errors_at(world.model, images, cells, [3, LENGTH])
    for column, count in enumerate((3, LENGTH)):
        made = world.model(image_BCHW, kept=count).reconstruction_BCHW.clamp(-1, 1)
        expected = ((made - image_BCHW) / 2).square().mean(dim=(1, 2, 3)).detach()
        np.testing.assert_allclose(found[:, column], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ({"kind": "rate", "mask_ratio": 0.97}, r"asks for 0.48 of L = 16 cells on the mean, .* at least 1: .* ≤ 0.937$"),
        ({"kind": "rate", "mask_ratio": 0.999}, "asks for 0.016 of L = 16"),
        ({"kind": "fixed", "mask_ratio": 0.97}, "keeps N = 0 of L = 16 cells; expected N ≥ 1"),
    ],
)  # fmt: skip
def test_a_budget_that_no_image_can_keep_is_refused_before_the_work(
    world: World, budget: dict[str, object], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        kept_by_all(Budget.model_validate(budget), world.model)


@given(length=st.integers(1, 1024), ratio=st.floats(0, 0.999), rungs=st.integers(3, 9), of=st.integers(1, 40))
def test_a_mean_is_refused_just_where_no_multiplier_keeps_it(
    length: int, ratio: float, rungs: int, of: int
) -> None:
    """And the ratio that the error names is not refused."""
    budget = Budget(kind="rate", mask_ratio=ratio, rungs=rungs, multiple_of=of)
    ladder = ladder_of(length, rungs)
    errors = 1 / np.arange(1.0, len(ladder) + 1)[None]
    psnr, mean = quality_at_all(decibels(errors), ladder, length), (1 - ratio) * length
    can = chosen(Plan(budget, multiplier_for(budget, psnr, mean)), psnr).mean() <= mean
    config = SimpleNamespace(num_positions=length, mask_ratio=0.5, kept="any", num_kept=1)
    refused = ""
    try:
        kept_by_all(budget, SimpleNamespace(config=config))  # type: ignore[arg-type]
    except UserError as error:
        refused = str(error)
    assert bool(refused) != can
    if refused:
        named = Budget(kind="rate", mask_ratio=float(refused.rpartition(" ")[2]), rungs=rungs, multiple_of=of)
        kept_by_all(named, SimpleNamespace(config=config))  # type: ignore[arg-type]


def test_a_quality_that_images_do_not_reach_is_reported(world: World) -> None:
    folder = world.folder("high")
    made = world.run("high", budget={"kind": "quality", "psnr": 90, "rungs": 3})
    assert (made.load("train").lengths == LENGTH).all()
    assert read_json(world.root / "high" / "metrics" / "metrics.json")["quality_missed"] == 1
    assert folder.lines() == [
        "13 of 13 images do not reach tokenize.budget.psnr 90, and keep all 16 cells: lower it, or train the MQ-VAE for longer"
    ]
    world.run("low", budget={"kind": "quality", "psnr": 0.01, "rungs": 3})
    assert read_json(world.root / "low" / "metrics" / "metrics.json")["quality_missed"] == 0
    assert world.folder("low").lines() == []
    with pytest.raises(ValueError, match="less than or equal to 100"):
        Budget(kind="quality", psnr=101)


def test_a_worker_that_failed_at_one_shard_makes_the_next_ones_as_a_new_worker_does(world: World) -> None:
    settings = settings_of(budget={"kind": "rate", "rungs": 3})
    plan, inputs = Plan(settings.budget, 1e-4), tokenize.Inputs(world.root / "shards", world.root / "mqvae")
    jobs = [
        ShardJob(path, world.root / "alone" / f"{path.parent.name}-{path.name}", 0)
        for path in (
            *ImageShards.open(inputs.shards).paths("train"),
            *ImageShards.open(inputs.shards).paths("val"),
        )
    ]

    def make() -> Callable[[ShardJob], dict[str, Any]]:
        return tokenize.encoder(inputs, settings, None, "cpu", 0, None, plan)

    def facts(made: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in made.items() if name != "seconds"}

    expected = {job.output: (facts(make()(job)), job.output.read_bytes()) for job in jobs}
    worn, no_folder = make(), world.root / "words.txt"
    no_folder.write_text("no folder")
    for job in jobs:
        with pytest.raises(OSError, match="words.txt"):
            worn(ShardJob(job.input, no_folder / "x.tar", 0))
        assert (facts(worn(job)), job.output.read_bytes()) == expected[job.output]
