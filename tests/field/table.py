"""What a row of the field suite is: a symptom that somebody met, how it is made here, and what must come of it.

The rows stand by area in `tests/field/*_rows.py`, each file a tuple `ROWS`; `tests/field/rows.py` puts them together,
`tests/field/test_*.py` try them, and `make field` renders them into docs/robustness.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.table import World
from tests.tiny import copy_of


@dataclass(frozen=True)
class Field:
    """What rows may start from; nobody changes either.

    Attributes:
        world: a folder with params.yaml, dvc.yaml and every artifact at the smallest size, made by the stages themselves.
        finished: a repository in which `dvc repro` has run at tiny scale, results committed.
    """

    world: Callable[[], World]
    finished: Callable[[], Path]

    def repository(self, folder: Path) -> Path:
        """A copy of the finished repository, to change."""
        return copy_of(self.finished(), folder / "repository")


@dataclass(frozen=True)
class Row:
    """One symptom.

    Attributes:
        symptom: what somebody met, in our words; unique.
        area: the part of the product, a heading of the page.
        made: how the input is made.
        expected: what must be in the outcome; the message that helps, or what is there at the end.
        outcome: makes it in an empty folder, tries it with the real product, and says what came of it, without anything
            that differs from machine to machine or from day to day.
    """

    symptom: str
    area: str
    made: str
    expected: str
    outcome: Callable[[Field, Path], str]
