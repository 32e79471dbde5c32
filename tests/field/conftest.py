"""What the rows start from, made at its first use, and where outcomes are written down for `make field`."""

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.field.table import Field
from tests.hostile.table import World
from tests.tiny import finished_repository, small_world

RESULTS = "FIELD_RESULTS"
"""Names a folder: each test process adds a file of outcomes to it."""


@pytest.fixture(scope="session")
def field(tmp_path_factory: pytest.TempPathFactory) -> Field:
    """A small world and a finished repository, each made once and only where a row asks for it."""

    @cache
    def world() -> World:
        return small_world(tmp_path_factory, tmp_path_factory.mktemp("field") / "world")

    @cache
    def finished() -> Path:
        return finished_repository(tmp_path_factory)

    return Field(world, finished)


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Symptom → what came of it."""
    found: dict[str, str] = {}
    yield found
    if os.environ.get(RESULTS):
        path = Path(os.environ[RESULTS], f"{request.module.__name__}.json")
        path.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
