"""Each row of `newcomer_rows`: made, tried, and held against what must come of it."""

from pathlib import Path

import pytest

from tests.field.newcomer_rows import ROWS
from tests.field.table import Field, Row


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.symptom)
def test_row(row: Row, field: Field, outcomes: dict[str, str], tmp_path: Path) -> None:
    outcomes[row.symptom] = got = row.outcome(field, tmp_path)
    assert row.expected in got
