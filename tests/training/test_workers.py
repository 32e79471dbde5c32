"""A step does not depend on how many workers there are: real groups of processes, and the order of data as a property."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training import test_stackformer_training as tokens
from tests.training.together import MODELS, Group, curves, difference, run, state
from training.loop.checkpoints import list_checkpoints
from workspace.exact.order import MOST_IN_MEMORY, DataOrder

CHAINS = (
    ("two", (1, "ddp", 10), (2, "fsdp", 40), (1, "ddp", 50)),
    ("four", (4, "fsdp", 20), (3, "fsdp", 40), (1, "ddp", 50)),
)
"""Name of a run, and its groups: workers, way, steps done at its end."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both models in float64 by 1, 2 and 4 workers, and by 2 with one flat sum after the backward pass.

    A Stackformer with divided weights too, in chains of groups: begun whole by one worker, or by four and continued by three
    (who cannot share four micro-batches evenly), and ended whole by one.
    """
    folder = tmp_path_factory.mktemp("trained")
    groups = [Group(f"{m}-{n}", m, "float64", n) for m in MODELS for n in (1, 2, 4)]
    groups += [Group(f"{m}-flat", m, "float64", 2, "flat") for m in MODELS]
    for name, *chain in CHAINS:
        groups += [Group(name, "stackformer", "float64", size, way, until) for size, way, until in chain]
    run(groups, folder)
    return folder


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size", [2, 4])
def test_losses_and_codebook_of_fifty_steps_do_not_depend_on_the_workers(
    trained: Path, model: str, size: int
) -> None:
    assert difference(trained / f"{model}-1", trained / f"{model}-{size}") <= 1e-5
    losses = curves(trained / f"{model}-{size}")["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("model", MODELS)
def test_sums_behind_the_backward_pass_have_the_bits_of_those_after_it(trained: Path, model: str) -> None:
    """Two numbers have one sum, whatever the buckets; so two runs on two workers have the same bits too."""
    behind, after = (state(trained / f"{model}-{way}").read_bytes() for way in ("2", "flat"))
    assert behind == after


@pytest.mark.parametrize("name", ["two", "four"])
def test_divided_weights_learn_the_same_across_resumes_by_other_numbers_of_workers(
    trained: Path, name: str
) -> None:
    assert difference(trained / "stackformer-1", trained / name) <= 1e-5
    parts = list_checkpoints(trained / name / "work")[0]
    assert parts.name == "step-000000040" and len(list(parts.glob("*.safetensors"))) > 1


def test_the_runs_restarted_codes_so_that_restarts_are_compared_too(trained: Path) -> None:
    found = curves(trained / "mqvae-4")
    assert sum(found["codes_restarted"]) > 0 and found["discriminator"][-1] != 0


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=7),
    group=st.integers(1, 4),
    micro=st.integers(1, 3),
    micro_batches=st.integers(1, 6),
    workers=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    seed=st.integers(0, 2**31),
    most_in_memory=st.sampled_from([0, MOST_IN_MEMORY]),  # both orders
    data=st.data(),
)
def test_every_sample_comes_once_an_epoch_whoever_reads_it_and_wherever_the_run_was_resumed(
    sizes: list[int],
    group: int,
    micro: int,
    micro_batches: int,
    workers: list[int],
    seed: int,
    most_in_memory: int,
    data: st.DataObject,
) -> None:
    """Between resume points the number of workers changes; uneven shards, batches that straddle epochs' ends."""
    batch, total = micro * micro_batches, sum(sizes)
    steps = -(-3 * total // batch)
    loop = tokens.TRAINING.replaced(steps=steps, global_batch=batch, micro_batch=micro, seed=seed)
    cuts = sorted(data.draw(st.integers(0, steps)) for _ in workers[1:])
    seen: list[tuple[int, int]] = []
    order = DataOrder(seed, sizes, group, most_in_memory)
    for size, first, end in zip(workers, [0, *cuts], [*cuts, steps], strict=True):
        size = min(size, micro_batches)
        for step in range(first, end):
            samples = order.batch(step, batch)
            dealt = [number for rank in range(size) for number in loop.mine(rank, size)]
            assert len(dealt) == micro_batches
            read = {number: samples[number * micro : (number + 1) * micro] for number in dealt}
            seen += [sample for number in range(micro_batches) for sample in read[number]]
    for epoch in range(3):
        assert sorted(index for e, index in seen if e == epoch) == list(range(total))
    assert [epoch for epoch, _ in seen] == sorted(epoch for epoch, _ in seen)
    orders = np.array([index for epoch, index in seen if epoch < 3]).reshape(3, total)
    assert len(orders) == 3
