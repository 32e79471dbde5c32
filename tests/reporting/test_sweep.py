"""Laws of a sweep's table: what differs, which is best, 80 columns, and nothing in it can run."""

import json
import re
import sys
from pathlib import Path

import pytest

from reporting import sweep
from reporting.sweep import WIDTH, SweepTable, markdown, page, read_sweep, shell

WIDTHS = ("64", "128", "<b>|x")
NUMBERS: tuple[dict[str, float], ...] = (
    {
        "evaluate/proxy_fd": 7.0,
        "evaluate/proxy_fd_low": 6.5,
        "evaluate/proxy_fd_high": 7.6,
        "train_stackformer/nats_per_image": 90.5,
        "sample/images_per_second_of_a_worker": 3.0,
    },
    {"evaluate/proxy_fd": 7.4, "train_stackformer/nats_per_image": 88.25},
    {"evaluate/proxy_fd": 9.0, "train_stackformer/nats_per_image": 99.0},
)
ARMS = [
    ((f"stackformer.model.width={width}", "compute.workers=0"), found)
    for width, found in zip(WIDTHS, NUMBERS, strict=True)
]


def written(folder: Path, arms: object = ARMS) -> SweepTable:
    results = [
        {
            "arm": "x",
            "settings": list(settings),
            "state": "Completed" if found else "Failed",
            "numbers": found,
        }
        for settings, found in arms  # type: ignore[attr-defined]
    ]
    (folder / "results.json").write_text(json.dumps(results))
    return read_sweep(folder / "results.json")


def test_only_what_differs_is_a_column_and_the_best_is_marked(tmp_path: Path) -> None:
    table = written(tmp_path)
    assert table.keys == ["stackformer.model.width"]
    assert list(table.names) == ["evaluate/proxy_fd", "train_stackformer/nats_per_image"]
    assert [table.cells(row, table.names) for row in table.rows] == [
        ["64", "7*", "90.5"], ["128", "7.4≈", "88.25*"], ["<b>|x", "9", "99"]]  # fmt: skip


def test_a_failed_arm_says_so_and_arms_alike_have_no_best(tmp_path: Path) -> None:
    table = written(
        tmp_path,
        [
            (("a.x=1",), {"evaluate/proxy_fd": 1.0}),
            (("a.x=2",), {}),
            (("a.x=3",), {"evaluate/proxy_fd": 1.0}),
        ],
    )
    text = shell(table, Path("all.html"))
    assert "2  failed" in text and sweep.BEST not in text.splitlines()[2]


@pytest.mark.parametrize("found", [{}, {"evaluate/proxy_fd": 1.0}])
def test_without_a_number_that_differs_each_arms_state_is_shown(
    found: dict[str, float], tmp_path: Path
) -> None:
    table = written(tmp_path, [((f"a.x={width}",), found) for width in (1, 2)])
    state = "completed" if found else "failed"
    lines = [line for line in markdown(table).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1 and lines[0] == "| a.x | state |"
    assert f"2  {state}" in shell(table, Path("all.html")) and page(table).count(f">{state}<") == 2


def test_an_arm_alone_shows_its_numbers(tmp_path: Path) -> None:
    assert list(written(tmp_path, [(("a.x=1",), {"evaluate/proxy_fd": 1.0})]).names) == ["evaluate/proxy_fd"]


def test_a_number_with_a_standard_error_has_its_interval(tmp_path: Path) -> None:
    best = {"evaluate/proxy_kid": 0.1, "evaluate/proxy_kid_error": 0.01}
    table = written(tmp_path, [((f"a.x={v}",), best | {"evaluate/proxy_kid": v}) for v in (0.1, 0.115, 0.13)])
    assert [table.mark(row, "evaluate/proxy_kid") for row in table.rows] == ["*", "≈", ""]


@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_the_shells_table_fits_80_columns_and_explains_itself(count: int, tmp_path: Path) -> None:
    arms = [
        (
            (f"mqvae.model.mask_ratio=0.{arm}", f"b.y={'long' * 9}{arm}"),
            {f"evaluate/proxy_accuracy_of_a_class_{n}": arm + n / 7 for n in range(count)},
        )
        for arm in range(3)
    ]
    text = shell(written(tmp_path, arms), Path("all.html"))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert count < 2 or ("(1) evaluate/" in text and "higher is better" in text)
    assert count < 40 or "more numbers in all.html" in text


def test_names_of_arms_are_text_wherever_they_are_shown(tmp_path: Path) -> None:
    table = written(tmp_path)
    assert "<b>" not in page(table) and "&lt;b&gt;|x" in page(table) and r"\<b\>\|x" in markdown(table)
    assert not re.search(r"(src|href|url)\s*[=(]", page(table)) and "default-src 'none'" in page(table)


def test_the_command_writes_three_files_and_refuses_another_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    path = tmp_path / "results.json"
    monkeypatch.setattr(sys, "argv", ["reporting.sweep", str(path), "--out", str(tmp_path / "out")])
    sweep.main()
    assert {made.name for made in (tmp_path / "out").iterdir()} == {"table.txt", "table.md", "index.html"}
    path.write_text("{}")
    with pytest.raises(SystemExit, match=r"is not the results\.json of a sweep"):
        sweep.main()
