"""Pairs alternate, ratios say how many times better ours is, and the tables are those of the files."""

import json
from pathlib import Path

import pytest

from benchmarks.harness import (
    Claim,
    Floor,
    Pairs,
    alternate,
    at_least,
    at_most,
    line,
    measured,
    not_measured,
    publish,
)
from benchmarks.run import row_modules
from benchmarks.table import BEGIN, END, full_text, read_results, rendered, short_table, with_table
from tests.committed import ROOT
from tests.helps import helps
from workspace.errors import UserError

FASTER = Claim(1, "faster", "a thing", "s", "lower", "the old thing", at_least(2.0))
KEYS = {
    "row", "ours", "reference", "ratio", "spread", "bar", "met", "note", "unit", "commit", "command", "versions", "shapes",
    "floor",
}  # fmt: skip


def test_both_sides_run_in_turn_after_a_warm_up_of_each() -> None:
    calls: list[str] = []
    figures = iter(range(1, 99))

    def side(name: str) -> float:
        calls.append(name)
        return float(next(figures))

    pairs = alternate(lambda: side("ours"), lambda: side("reference"), pairs=3)
    assert calls == ["ours", "reference"] * 4
    assert pairs == Pairs((3, 5, 7), (4, 6, 8))


def test_the_ratio_is_the_median_of_the_pairs_and_its_spread_their_extremes() -> None:
    result = measured(FASTER, Pairs((1.0, 2.0, 4.0), (3.0, 4.0, 20.0)), {})
    assert (result.ours, result.reference, result.ratio, result.spread) == (2.0, 4.0, 3.0, (2.0, 5.0))


@pytest.mark.parametrize(
    ("better", "bar", "ours", "reference", "ratio", "met", "text"),
    [
        ("lower", at_least(2.0), 1.0, 2.0, 2.0, True, "≥ 2×"),
        ("lower", at_least(2.5), 1.0, 2.0, 2.0, False, "≥ 2.5×"),
        ("higher", at_least(2.0), 4.0, 2.0, 2.0, True, "≥ 2×"),
        ("lower", at_most(60.0), 61.0, None, None, False, "≤ 60 s"),
        ("higher", at_least(200_000, "ours"), 2e5, None, None, True, "≥ 200,000 s"),
    ],
)
def test_a_bar_is_met_where_its_figure_reaches_it(
    better: str, bar: object, ours: float, reference: float | None, ratio: float | None, met: bool, text: str
) -> None:
    claim = Claim(1, "x", "x", "s", better, "", bar)  # type: ignore[arg-type]
    result = measured(claim, Pairs((ours,), () if reference is None else (reference,)), {})
    assert (result.ratio, result.met, result.bar) == (ratio, met, text)


def test_a_file_holds_what_the_tables_need_and_what_is_needed_to_measure_again(tmp_path: Path) -> None:
    publish(
        measured(FASTER, Pairs((1.0,), (3.0,)), {"batch": 8}, "why", Floor(0.5, "bytes")),
        "python -m x",
        tmp_path,
    )
    publish(
        not_measured(Claim(2, "gpu", "on a GPU", "s", "lower", "", at_most(2.0, "ratio")), "no GPU", {}),
        "y",
        tmp_path,
    )
    first, second = read_results(tmp_path)
    assert first.keys() >= KEYS and json.loads((tmp_path / "faster.json").read_text()) == first
    assert "| a thing | 1 s | 3 s, the old thing | 3× (3 … 3) | ≥ 2× | met |" in short_table([first, second])
    assert "on a GPU" not in short_table([first, second])
    text = full_text([first, second])
    assert "not measured" in text and "no GPU" in text and "- Floor: bytes" in text


def test_a_line_tells_the_verdict() -> None:
    assert line(measured(FASTER, Pairs((2.0,), (3.0,)), {})).endswith("bar ≥ 2×: NOT MET")
    assert line(not_measured(FASTER, "no GPU", {})).endswith("not measured: no GPU")


def test_the_table_goes_between_the_markers_and_nowhere_else() -> None:
    text = f"a\n{BEGIN}\nold\n{END}\nb\n"
    assert with_table(text, "new") == f"a\n{BEGIN}\nnew\n{END}\nb\n"
    assert with_table(with_table(text, "x"), "new") == with_table(text, "new")
    with pytest.raises(UserError, match="expected the two lines"):
        with_table("no markers", "new")


def test_the_tables_are_in_step_with_the_results() -> None:
    for path, text in rendered(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run `python -m benchmarks.table`"


def test_each_module_has_a_help_and_measures_nothing_on_import(tmp_path: Path) -> None:
    modules = [f"benchmarks.{name}" for name in (*row_modules([]), "run", "table")]
    assert len(helps(modules, tmp_path)) == len(modules) and not list(tmp_path.iterdir())


def test_every_result_states_the_row_that_makes_it() -> None:
    for result in read_results():
        module = result["command"].removeprefix("python -m benchmarks.")
        assert module in row_modules([result["row"]]), result["name"]
