"""Laws of the samples that show best and worst what they were asked for."""

import re

import pytest

from reporting.fits import SHOWN, Ends, ends_of, read_ends
from workspace.errors import UserError
from workspace.exact.manifest import read_manifest


def test_the_ends_are_the_lowest_and_the_highest_and_never_the_same() -> None:
    ends = ends_of([0.5, None, 0.9, 0.1, 0.7])
    assert ends.worst == ((3, 0.1), (0, 0.5))
    assert ends.best == ((2, 0.9), (4, 0.7))
    many = ends_of([place / 100 for place in range(100)])
    assert len(many.worst) == len(many.best) == SHOWN
    assert not set(many.rows()[:SHOWN]) & set(many.rows()[SHOWN:])


@pytest.mark.parametrize("fits", [[], [None, None], [0.3]])
def test_nothing_is_shown_of_too_few(fits: list[float | None]) -> None:
    assert ends_of(fits) == Ends()


def test_the_page_shows_both_ends_with_their_fits(page: str) -> None:
    section = page.split("<h3>worst</h3>")[1].split("</details>")[0]
    worst, best = section.split("<h3>best</h3>")
    shown = [
        [float(fit) for fit in re.findall(r'<span class="note">\S* ?([\d.]+)</span>', part)]
        for part in (worst, best)
    ]
    assert [len(fits) for fits in shown] == [SHOWN, SHOWN]
    assert shown[0] == sorted(shown[0]) and shown[1] == sorted(shown[1], reverse=True)
    assert shown[0][0] == 0.5 and shown[1][0] == 0.9


def test_fits_that_were_changed_are_told(made, tmp_path) -> None:  # type: ignore[no-untyped-def]
    folder = made.sources.evaluation
    manifest = read_manifest(folder, "evaluation")
    assert read_ends(folder, manifest) != Ends()
    (tmp_path / "shape_fit.json").write_text("{}")
    with pytest.raises(UserError, match="was changed"):
        read_ends(tmp_path, manifest)
