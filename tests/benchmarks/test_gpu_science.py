"""The kit's science: programs side by side under a deadline, how many steps there is time for, tables of what is whole."""

import json
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import science
from benchmarks.gpu.phase import Place
from benchmarks.gpu.stages import Ended, Program, side_by_side
from tests.waiting import slowness

PLAIN = {"psnr": 20.0, "codebook_usage": 1.0}


def place_of(folder: Path, seconds: float = 600.0, tiny: bool = False) -> Place:
    """A place whose time is up in so many seconds."""
    (folder / "pictures").mkdir(exist_ok=True)
    return Place("cpu", tiny, folder, folder, None, None, time.time() + seconds)


def python(name: str, text: str) -> Program:
    """A program of one line."""
    return Program(name, [sys.executable, "-S", "-c", text])


def test_programs_run_side_by_side_in_order_and_are_ended_at_the_deadline(tmp_path: Path) -> None:
    texts = {
        "well": "print('fine')",
        "badly": "raise SystemExit('no')",
        "late": "import time; time.sleep(600)",
        "never": "",
    }
    told: dict[str, Ended] = {}
    began, slow = time.time(), slowness()
    programs = [python(name, text) for name, text in texts.items() if name != "never"]
    programs += [python("late too", texts["late"]), python("never", "")]
    found = side_by_side(programs, place_of(tmp_path), 2, began + 5 * slow, told.__setitem__)
    assert time.time() - began < 15 * slow and found == told
    assert {name: ended.status for name, ended in found.items()} == {
        "well": 0,
        "badly": 1,
        "late": None,
        "late too": None,
    }
    assert found["well"].ok and found["badly"].tail == "no\n" and not found["late"].ok


def test_all_arms_get_the_steps_that_fit_the_time_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        science, "rate_of", lambda metrics: {"train_mqvae": 20.0, "train_stackformer": 40.0}[metrics.name]
    )
    ended = {f"trial-adaptive-50-{number}": Ended(0 if number else 1, 15.0, "") for number in range(3)}
    steps = [
        science.chosen_steps(place_of(tmp_path, seconds), ended, 100, 12)["steps"]
        for seconds in (30, 300, 600, 100_000)
    ]
    assert steps[0] == science.FEWEST and steps[-1] == science.MOST and steps[0] < steps[1] < steps[2]
    work = science.plan(place_of(tmp_path))
    with_samples = sum(science.generated(arm) for arm, _ in work)
    spent = len(work) * (steps[2] / 20 + 7.5 + science.SCORING_SECONDS) + with_samples * steps[2] / 40
    assert 0.75 * 12 * 600 < spent < 0.9 * 12 * 600
    with pytest.raises(RuntimeError, match="no training of the trial went well: cut off"):
        science.chosen_steps(place_of(tmp_path), {"trial-adaptive-50-0": Ended(1, 1.0, "cut off")}, 100, 1)


def test_arms_are_planned_seed_by_seed_with_everything_that_both_tables_show(tmp_path: Path) -> None:
    work = science.plan(place_of(tmp_path))
    seeds = [seed for _, seed in work]
    assert seeds == sorted(seeds) and len(work) == len(set(work)) == 45
    rows = {row["arm"] for table in science.tables_of().values() for row in table["rows"]}
    assert {arm for arm, _ in work} == rows


def write(folder: Path, arm: str, seed: int, generated: bool) -> None:
    """An arm's numbers."""
    numbers = {
        "train_mqvae": {"parameters": 10},
        "reconstruct": {"squeezenet_rfd": seed + len(arm)} | PLAIN,
    }
    if generated:
        numbers["evaluate"] = {"squeezenet_fd": 3.0 * seed}
    for stage, values in numbers.items():
        path = folder / "science" / "runs" / arm / str(seed) / "metrics" / stage / "metrics.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))


def test_a_cut_leaves_tables_of_whole_seeds_or_of_the_first_ones_whole_arms(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    assert not science.tables(place)["ok"]
    for arm, seed in science.plan(place)[:20]:
        if seed == 0 and arm != "demask-sa":
            write(tmp_path, arm, seed, science.generated(arm))
    first = science.tables(place)
    assert first["ok"] and first["table6"]["table"]["seeds"] == [0]
    assert len(first["table6"]["table"]["arms"]) == 11 and len(first["table7"]["table"]["arms"]) == 5
    assert "SA" not in [arm["title"] for arm in first["table7"]["table"]["arms"]]
    for arm, seed in science.plan(place)[:40]:
        if seed == 1 or (arm, seed) == ("demask-sa", 0) or (seed == 2 and arm == "vqgan"):
            write(tmp_path, arm, seed, science.generated(arm))
    both = science.tables(place)
    assert [both[name]["table"]["seeds"] for name in science.TABLES] == [[0, 1], [0, 1]]
    assert len(both["table7"]["table"]["arms"]) == 6 and "± " in both["table6"]["markdown"]
    assert both["numbers"]["vqgan/2/metrics/reconstruct"]["squeezenet_rfd"] == 7
