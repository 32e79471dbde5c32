"""Laws of the rendered tables: verdicts against the spread over seeds, numbers from the metrics and from nowhere else."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.table import Arm, cell, orderings, place, read_arm, reduced, render, rendered, verdict
from workspace.errors import UserError

ROWS = [
    {"arm": "adaptive", "title": "adaptive", "paper": {"rfd": 5.31}},
    {"arm": "random", "title": "random", "paper": {"rfd": 7.855}},
]


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([1.0, 1.1, 0.9], "held"),
        ([-1.0, -1.1, -0.9], "not held"),
        ([1.0, -0.9, 0.3], "not resolved"),
        ([1.0, 0.1, 2.5], "not resolved"),
        ([0.0, 0.0, 0.0], "not resolved"),
        ([5.0], "not resolved"),
    ],
)
def test_an_ordering_is_resolved_only_beyond_the_spread_of_its_differences(
    differences: list[float], expected: str
) -> None:
    assert verdict(differences) == expected


def test_the_verdict_is_students_t_at_95_percent() -> None:
    spread = 1.0  # of (d - 1, d, d + 1), whose standard error is 1 / √3; the 95 % point at 2 degrees of freedom is 2.92
    assert verdict([1.69 - spread, 1.69, 1.69 + spread]) == "held"
    assert verdict([1.68 - spread, 1.68, 1.68 + spread]) == "not resolved"


def test_turning_an_ordering_round_turns_its_verdict() -> None:
    arms = {name: Arm(name, name, {}, {"rfd": values, "psnr": values}, {}) for name, values in
            {"a": [1.0, 1.1, 1.2], "b": [2.0, 2.1, 2.3]}.items()}  # fmt: skip
    for better, worse, expected in (("a", "b", ["held", "not held"]), ("b", "a", ["not held", "held"])):
        table = {"orderings": [{"better": better, "worse": worse, "columns": ["rfd", "psnr"]}]}
        found = orderings(table, arms, {"rfd": "proxy_rfd"})
        assert [one.verdict for one in found] == expected
        assert found[0].text == f"{better} is better than {worse} in proxy_rfd" and found[0].paper is None


def write_metrics(runs: Path, arm: str, seed: int, rfd: float) -> None:
    numbers = {
        "train_mqvae": {"parameters": 1000, "psnr": 1.0},
        "reconstruct": {"proxy_rfd": rfd, "psnr": 30 - rfd, "codebook_usage": 0.5},
    }
    for stage, values in numbers.items():
        folder = runs / arm / str(seed) / "metrics" / stage
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(values), encoding="utf-8")


def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A table of two arms and three seeds in a repository of its own."""
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    name = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    subprocess.run(["git", *name, "commit", "-q", "--allow-empty", "-m", "t"], check=True)
    runs = Path("runs")
    for seed in range(3):
        write_metrics(runs, "adaptive", seed, 5 + 0.1 * seed)
        write_metrics(runs, "random", seed, 7 + 0.2 * seed)
    Path("experiments").mkdir()
    Path("experiments/arms.yaml").write_text(yaml.safe_dump({"seeds": {"shapes": [0, 1, 2]}}))
    table: dict[str, Any] = {
        "base": "shapes",
        "title": "T",
        "columns": ["rfd", "psnr"],
        "rows": ROWS,
        "trained": [],
    }
    table["orderings"] = [{"better": "adaptive", "worse": "random", "columns": ["rfd"]}]
    Path("table.yaml").write_text(yaml.safe_dump(table))
    return Path("table.yaml"), runs


def test_a_table_says_mean_spread_the_papers_number_verdict_commit_and_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, runs = tables(tmp_path, monkeypatch)
    document = Path("docs/results.md")
    document.parent.mkdir()
    document.write_text("before\n<!-- table6 -->\nold\n<!-- /table6 -->\nafter\n")
    render(table, runs, Path("docs/results/table6"), "make table6")
    text = Path("docs/results/table6.md").read_text()
    assert "| adaptive | 5.10 ± 0.10 | 5.31 | 24.90 ± 0.10 | 0.00 M |" in text
    assert "| adaptive is better than random in proxy_rfd | **held** | +2, +2.1, +2.2 | so |" in text
    filled = document.read_text()
    assert filled.startswith("before\n<!-- table6 -->\n| arm |") and filled.endswith(
        "<!-- /table6 -->\nafter\n"
    )
    value = json.loads(Path("docs/results/table6.json").read_text())
    assert set(value) == {"title", "command", "commit", "seeds", "columns", "arms", "orderings"}
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    assert (
        value["commit"] == head.strip() and value["command"] == "make table6" and value["seeds"] == [0, 1, 2]
    )
    assert value["arms"][0]["values"]["rfd"] == [5.0, 5.1, 5.2] and value["arms"][0]["params"] == {
        "mqvae": 1000
    }
    assert value["orderings"][0]["verdict"] == "held"


def test_a_missing_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, runs = tables(tmp_path, monkeypatch)
    (runs / "random" / "1" / "metrics" / "reconstruct" / "metrics.json").unlink()
    with pytest.raises(
        UserError,
        match=r"runs/random/1 has no rfd: `make table6`, or the table's own target, runs what is missing",
    ):
        read_arm(ROWS[1], runs, [0, 1, 2], ["rfd"])


def test_one_seed_has_no_spread_and_two_have() -> None:
    assert cell([1.234], 2) == "1.23" and cell([1.0, 2.0], 1) == "1.5 ± 0.7"


def test_a_document_without_the_markers_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    path.write_text("nothing\n")
    place("table", "table6", path)
    assert path.read_text() == "nothing\n"


def test_a_table_of_fewer_arms_keeps_the_orderings_between_them(tmp_path: Path) -> None:
    for seed in (0, 1):
        for arm, rfd in (("adaptive", 5.0), ("random", 7.0)):
            write_metrics(tmp_path, arm, seed, rfd + seed)
    orders = [
        {"better": "adaptive", "worse": "random", "columns": ["rfd"]},
        {"better": "adaptive", "worse": "gone", "columns": ["rfd"]},
    ]
    rows = [*ROWS, {"arm": "gone", "title": "gone", "paper": {}}]
    table = {
        "title": "T",
        "columns": ["rfd"],
        "trained": ["adaptive", "random", "gone"],
        "rows": rows,
        "orderings": orders,
    }
    with pytest.raises(UserError, match="gone/0 has no rfd"):
        rendered(table, [0, 1], tmp_path)
    value, text = rendered(reduced(table, ["adaptive", "random"]), [0, 1], tmp_path)
    assert [arm["name"] for arm in value["arms"]] == ["adaptive", "random"] and value["seeds"] == [0, 1]
    assert (
        [one["verdict"] for one in value["orderings"]] == ["held"]
        and "| adaptive |" in text
        and "gone" not in text
    )
