"""Symptoms of the area named by this file; see `tests.field.table`."""

from tests.field.table import Row

ROWS: tuple[Row, ...] = ()
