"""The samples of drawn shapes that show their requested shape best and worst, by `shape_fit`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.shapes.fitted import NAME, ShapeFits
from workspace.exact.manifest import Manifest, parsed, verify_file

SHOWN = 9
"""Number of samples shown at either end."""


@dataclass(frozen=True)
class Ends:
    """Rows of samples with their fit: the worst, lowest first, and the best, highest first."""

    worst: tuple[tuple[int, float], ...] = ()
    best: tuple[tuple[int, float], ...] = ()

    def rows(self) -> list[int]:
        """The rows of both, in that order."""
        return [row for row, _ in (*self.worst, *self.best)]


def read_ends(folder: Path, manifest: Manifest) -> Ends:
    """Read the ends from an evaluation artifact; empty if its samples are not drawn shapes.

    Raises:
        UserError: the file of fits was changed.
    """
    if NAME not in manifest.files:
        return Ends()
    verify_file(folder, manifest, NAME)
    return ends_of(parsed(ShapeFits, (folder / NAME).read_bytes(), str(folder / NAME)).fit)


def ends_of(fits: Sequence[float | None]) -> Ends:
    """The lowest and the highest fits, at most half of all at either end."""
    known = sorted((fit, row) for row, fit in enumerate(fits) if fit is not None)
    count = min(SHOWN, len(known) // 2)
    worst = tuple((row, fit) for fit, row in known[:count])
    best = tuple((row, fit) for fit, row in known[::-1][:count])
    return Ends(worst, best)
