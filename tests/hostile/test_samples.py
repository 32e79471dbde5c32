"""Short samples of the long suites, on a world of their own: fuzzing, flipped bytes; and that the long ones were well."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.hostile.flips import sweep
from tests.hostile.fuzz import CORPUS, corpus, escapes, fuzz, targets
from tests.hostile.results import RESULTS
from tests.hostile.table import World
from tests.tiny import small_world

RESULT = {"fuzz.json": ("inputs", "escaped"), "interrupts.json": ("moments", "identical")}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return small_world(tmp_path_factory, tmp_path_factory.mktemp("flips") / "world")


def test_a_few_hundred_hostile_inputs_let_nothing_but_our_own_error_out() -> None:
    counts, out = fuzz(900, seed=1, told=lambda text: None)
    assert out == {} and sum(counts.values()) >= 900 and len(counts) == len(targets())


def test_what_fuzzing_once_found_lets_nothing_out(tmp_path: Path) -> None:
    readers = {target.name: target for target in targets()}
    found = [escapes(readers[name], tmp_path, data) for name, data in corpus()]
    assert found == [""] * len(json.loads(CORPUS.read_text(encoding="utf-8")))


def test_every_flipped_byte_is_noticed_or_changes_nothing(world: World) -> None:
    found = Counter(
        what.split()[0] for (_, what), count in sweep(world, 0, 40, seed=1).items() for _ in range(count)
    )
    assert found["MISSED"] == 0 and found["noticed"] >= 30


@pytest.mark.parametrize("name", RESULT)
def test_the_long_suites_were_well_when_they_last_ran(name: str) -> None:
    found = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    total, of = (found[key] for key in RESULT[name])
    assert (
        isinstance(total, int)
        and isinstance(of, int)
        and found["commit"]
        and found["command"].startswith("make ")
    )
    assert of == {"fuzz.json": 0, "interrupts.json": total}[name]
    assert total >= {"fuzz.json": 200_000, "interrupts.json": 1}[name]
