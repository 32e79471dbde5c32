"""Every hostile case: made, tried, and held against what must come of it; `make hostile` writes the outcomes down."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.cases import CASES
from tests.hostile.render import PAGE, RESULT, page
from tests.hostile.table import Case, World, fresh, reachable
from tests.tiny import small_world

RESULTS = "HOSTILE_RESULTS"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Every artifact, in a path with a space, a quote and an umbrella."""
    with reachable() as place:
        yield small_world(tmp_path_factory, place / "it's köln ☂")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A case's own folder."""
    with reachable() as place:
        yield fresh(place / "case")


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, str]]:
    """What came of each case, written where the environment says, for the table in docs/robustness.md."""
    found: dict[str, str] = {}
    yield found
    if os.environ.get(RESULTS):
        Path(os.environ[RESULTS]).write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile(case: Case, world: World, outcomes: dict[str, str], folder: Path) -> None:
    got = case.outcome(world, folder)
    outcomes[case.name] = got
    assert case.expected in got


def test_the_committed_table_is_in_step_in_names_and_outcomes(outcomes: dict[str, str]) -> None:
    committed = json.loads(RESULT.read_text(encoding="utf-8"))["cases"]
    keys = ("name", "group", "made", "expected")
    assert [[case[key] for key in keys] for case in committed] == [
        [getattr(case, key) for key in keys] for case in CASES
    ]
    assert all(case["ok"] for case in committed)
    tried = [(case["name"], case["got"]) for case in committed if case["name"] in outcomes]
    assert tried == [(name, outcomes[name]) for name, _ in tried], "run `make hostile`"
    assert PAGE.read_text(encoding="utf-8") == page(committed), "run `python -m tests.hostile.render --table`"


def test_the_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 70
