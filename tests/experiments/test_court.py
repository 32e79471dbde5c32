"""Laws of the court's verdicts: an interval, a margin, and runs that gather over days."""

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from experiments.arm import ARMS
from experiments.court import TAKEN, collected, numbers_of_run, render, verdicts
from experiments.court_page import markdown
from experiments.verdicts import judged, seeds_needed, within
from shards.tokens.reading import SAME_PLACES
from tests.committed import ROOT
from workspace.errors import UserError

TABLE = {
    "title": "t",
    "base": "court",
    "against": ["paper"],
    "rows": [{"arm": "paper", "title": "the paper's"}, {"arm": "other", "title": "another"}],
    "margins": {"psnr": {"amount": 0.2}, "rfd": {"share": 0.1}},
}


@pytest.mark.parametrize(
    ("differences", "margin", "expected"),
    [
        ([0.5, 0.6, 0.55], 0.2, "better"),
        ([-0.5, -0.6, -0.55], 0.2, "worse"),
        ([0.01, -0.02, 0.02], 0.2, "equal"),
        ([0.05, 0.06, 0.055], 0.2, "equal"),  # beyond 0, and too small to matter
        ([0.5, -0.4, 0.3], 0.2, "not resolved"),
        ([9.0], 0.2, "not resolved"),
    ],
)
def test_verdicts_by_interval_and_margin(differences: list[float], margin: float, expected: str) -> None:
    verdict, mean, half = judged(differences, margin)
    assert verdict == expected and mean == pytest.approx(np.mean(differences))
    if len(differences) > 1:
        from scipy.stats import t as student  # 0.8 CPU seconds, which collection in each worker need not take

        low, high = student.interval(
            0.95, len(differences) - 1, mean, np.std(differences, ddof=1) / len(differences) ** 0.5
        )
        assert (mean - half, mean + half) == pytest.approx((low, high))


def test_turning_the_sides_round_turns_the_verdict() -> None:
    turned = {"better": "worse", "worse": "better"}
    for differences in ([0.5, 0.6, 0.55], [0.0, 0.3, 0.1], [0.01, 0.0, 0.02]):
        one, other = judged(differences, 0.2)[0], judged([-value for value in differences], 0.2)[0]
        assert other == turned.get(one, one)


@pytest.mark.parametrize(
    ("verdict", "mine", "theirs", "expected"),
    [
        ("better", 448, 652, "better"),
        ("better", 64, 64, "better"),
        ("better", 256, 64, "open"),
        ("worse", 256, 64, "worse"),
        ("worse", 64, 256, "open"),
        ("equal", 448, 652, "equal"),
        ("equal", 652, 448, "open"),
        ("not resolved", 652, 448, "not resolved"),
    ],
)
def test_within_a_budget_no_side_wins_by_what_it_spent_beyond_it(
    verdict: str, mine: float, theirs: float, expected: str
) -> None:
    assert within(verdict, mine, theirs) == expected
    turned = {"better": "worse", "worse": "better"}
    if verdict in turned:
        assert within(turned[verdict], theirs, mine) == turned.get(expected, expected)


def test_the_seeds_it_asks_for_have_the_power_it_promises() -> None:
    from scipy.stats import t as student

    count = seeds_needed(spread=1.0, margin=1.2)
    drawn = np.random.default_rng(0).normal(1.2, 1.0, (4000, count))
    errors = drawn.std(axis=1, ddof=1) / math.sqrt(count)
    found = np.mean(drawn.mean(axis=1) > student.ppf(0.975, count - 1) * errors)
    assert 0.78 < found < 0.9 and seeds_needed(2.0, 1.2) > count


def write_run(
    runs: Path, arm: str, seed: int, psnr: float, done: bool = True, mask: str | None = None
) -> None:
    numbers: dict[str, dict[str, float]] = {"reconstruct": {"psnr": psnr, "proxy_rfd": 40 - psnr}}
    if done:
        numbers["evaluate"] = {"proxy_fd": 50 - psnr}
    for stage, values in numbers.items():
        folder = runs / arm / str(seed) / "metrics" / stage
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(values))
    if mask is not None:
        model = {"mask": mask, "num_codes": 128}
        folder = runs / arm / str(seed) / "metrics"
        (folder / "train_mqvae").mkdir()
        (folder / "train_mqvae" / "protocol.json").write_text(json.dumps({"settings": {"model": model}}))
        raw = {"code_bits_per_image_raw": 448.0, "position_bits_per_image_raw": 203.6}
        (folder / "train_stackformer").mkdir()
        (folder / "train_stackformer" / "metrics.json").write_text(json.dumps(raw))
        (folder / "evaluate" / "run.json").write_text(json.dumps({"origin": {"revision": "abc"}}))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Git repository with a commit, for the runs' origin; the working folder, so that this project's page stays as it is."""
    monkeypatch.chdir(tmp_path)
    for words in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "m"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(TABLE))
    return tmp_path


def test_runs_of_other_days_stay_and_a_run_made_again_replaces_its_own(repository: Path) -> None:
    runs, out = repository / "runs", repository / "out" / "court"
    for seed in (0, 1):
        write_run(runs, "paper", seed, 20.0 + seed)
        write_run(runs, "other", seed, 21.0 + seed + 0.01 * seed)
    write_run(runs, "other", 2, 30.0, done=False)
    render(repository / "table.yaml", runs, out)
    first = json.loads(out.with_suffix(".json").read_text())
    assert set(first["runs"]["other"]) == {"0", "1"}, "a run without samples is not collected"
    by_column = {one["column"]: one for one in first["verdicts"]}
    assert by_column["psnr"]["verdict"] == "better" and by_column["psnr"]["seeds"] == 2
    assert by_column["rfd"]["margin"] == pytest.approx(0.1 * 19.5)
    for path in sorted(runs.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    write_run(runs, "other", 0, 20.5)
    render(repository / "table.yaml", runs, out)
    second = json.loads(out.with_suffix(".json").read_text())
    assert second["runs"]["other"]["1"] == first["runs"]["other"]["1"]
    assert second["runs"]["other"]["0"]["psnr"] == 20.5
    text = out.with_suffix(".md").read_text()
    assert "| another | 2 |" in text and "Against: the paper's." in text


def test_without_the_papers_runs_nothing_is_judged(repository: Path) -> None:
    write_run(repository / "runs", "other", 0, 20.0)
    with pytest.raises(
        UserError, match=r"no finished run of paper, .* `make court` with ONLY=paper makes one"
    ):
        render(repository / "table.yaml", repository / "runs", repository / "court")


def test_one_seed_is_shown_and_not_resolved() -> None:
    runs: dict[str, Any] = {
        arm: {"0": {"psnr": value, "rfd": 1.0, "commit": ""}}
        for arm, value in (("paper", 1.0), ("other", 9.0))
    }
    found = verdicts(TABLE, runs)
    assert {one.verdict for one in found} == {"not resolved"} and found[0].needed is None
    assert "| another | 1 | one seed: +8 | one seed: +0 |" in markdown(TABLE, runs, found, {})
    assert collected({"rows": []}, Path("nowhere"), runs) == runs


@pytest.mark.parametrize(
    ("folder", "name"),
    [("court", "params"), ("court_photographs", "faces"), ("court_photographs", "flowers")],
)
def test_the_courts_rows_are_arms_with_equal_settings_but_their_chooser(folder: str, name: str) -> None:
    catalogue = yaml.safe_load((ROOT / ARMS).read_text(encoding="utf-8"))
    arms = catalogue["arms"]
    table = yaml.safe_load((ROOT / f"experiments/{folder}/{name}.yaml").read_text(encoding="utf-8"))
    names = [row["arm"] for row in table["rows"]]
    trained = yaml.safe_load((ROOT / f"experiments/{folder}/params.yaml").read_text(encoding="utf-8"))[
        "trained"
    ]
    assert names == trained and set(table["against"]) <= set(names) <= set(arms)
    assert (
        table["base"] == folder
        and table["base"] in catalogue["bases"]
        and table["base"] in catalogue["seeds"]
    )
    assert set(table["margins"]) <= set(TAKEN)
    common = set(arms[table["against"][0]])
    for name in names:
        if name.endswith(("-75-f2", "-75")):
            extra = set(arms[name]) - common
            chooser = ("mqvae.model.mask=", "mqvae.model.scorer=", "mqvae.model.mask_estimator=")
            assert all(
                one.startswith((*chooser, "mqvae.exploration.", "mqvae.loss.distillation=")) for one in extra
            )


def test_places_that_are_the_same_in_all_images_cost_no_bits(tmp_path: Path) -> None:
    for mask in ("adaptive", "random", "gradient", "checkerboard"):
        write_run(tmp_path, mask, 0, 20.0, mask=mask)
        found = numbers_of_run(tmp_path / mask / "0")
        assert found is not None and found["codes"] == 64 and found["commit"] == "abc"
        assert found["bits"] == pytest.approx(448 if mask in SAME_PLACES else 651.6)


def test_a_pair_is_judged_once_and_a_verdict_says_what_it_cost() -> None:
    numbers = {"paper": (20.0, 64, 652), "other": (22.0, 256, 1792), "third": (21.0, 64, 448)}
    runs: dict[str, Any] = {
        arm: {
            str(seed): {"psnr": psnr + 0.01 * seed, "rfd": 1.0, "codes": codes, "bits": bits, "commit": ""}
            for seed in range(3)
        }
        for arm, (psnr, codes, bits) in numbers.items()
    }
    rows = [{"arm": arm, "title": arm} for arm in numbers]
    table = TABLE | {"against": ["paper", "third"], "rows": rows}
    found = {(one.arm, one.against): one for one in verdicts(table, runs) if one.column == "psnr"}
    assert set(found) == {("other", "paper"), ("third", "paper"), ("other", "third")}
    assert found["other", "paper"].verdict == "better" and found["other", "paper"].at_equal_codes == "open"
    assert found["third", "paper"].at_equal_codes == found["third", "paper"].at_equal_bits == "better"
    text = markdown(
        table, runs, verdicts(table, runs), {"paper": {"mqvae": 99.4, "stackformer": 5, "sample": 7}}
    )
    assert "**better**, with more codes: +2 ± " in text and "| paper | 99.4 | 5 | 7 |" in text


def test_a_column_that_no_run_has_is_left_out_and_large_distances_have_no_decimals() -> None:
    runs: dict[str, Any] = {
        "paper": {"0": {"psnr": 20.123, "rfd": 1234.56, "second_rfd": 12.5, "commit": ""}},
        "other": {"0": {"psnr": 21.0, "rfd": 987.6, "commit": ""}},
    }
    text = markdown(TABLE, runs, [], {})
    assert text.startswith("| chooser | seeds | PSNR, dB | rfd | second rfd |\n")
    assert "| the paper's | 1 | 20.12 | 1235 | 12.50 |" in text
    assert "| another | 1 | 21.00 | 988 | – |" in text
