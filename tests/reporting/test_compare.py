"""Laws of comparing: like with like only, and every other difference is told."""

import subprocess

import pytest

from reporting.compare import Measured, compare, conflicts, main
from workspace.exact.manifest import write_json


@pytest.fixture
def write(tmp_path, protocol_of):
    def written(name, numbers, **changes):
        write_json(tmp_path / name / "metrics.json", numbers)
        protocol_of(**changes).write(tmp_path / name)
        return tmp_path / name / "metrics.json"

    return written


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    told, code = capsys.readouterr(), ended.value.code
    return (1, told.out, code) if isinstance(code, str) else (code, told.out, told.err)  # a text is status 1


def test_a_table_tells_the_difference_and_which_way_is_better(write, capsys):
    a = write("a", {"proxy_fd": 21.5, "proxy_accuracy": 0.75, "psnr_mean_image": 12.0})
    b = write("b", {"proxy_fd": 19.0, "proxy_accuracy": 0.70, "psnr_mean_image": 12.5})
    code, out, _ = run(capsys, a, b)
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert code == 0
    assert lines["proxy_fd"] == ["21.5", "19", "-2.5", "better"]
    assert lines["proxy_accuracy"] == ["0.75", "0.7", "-0.05", "worse"]
    assert lines["psnr_mean_image"] == ["12", "12.5", "+0.5"]


def test_a_difference_that_an_interval_covers_is_neither_better_nor_worse(write, capsys):
    near = {
        "proxy_fd": 7.4,
        "proxy_fd_low": 6.98,
        "proxy_fd_high": 7.8312,
        "proxy_kid": 0.2,
        "proxy_kid_error": 0.02,
    }
    far = {
        "proxy_fd": 7.9,
        "proxy_fd_low": 7.3,
        "proxy_fd_high": 8.5,
        "proxy_kid": 0.1,
        "proxy_kid_error": 0.001,
    }
    code, out, _ = run(capsys, write("a", near), write("b", far))
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0
    assert "7.40 [6.98, 7.83]" in lines["proxy_fd"] and lines["proxy_fd"].endswith("+0.5 within the interval")
    assert "0.200 [0.161, 0.239]" in lines["proxy_kid"] and lines["proxy_kid"].endswith("-0.1 better")
    assert not any(name.endswith(("_low", "_high", "_error")) for name in lines)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reference", "0" * 64),
        ("reference_split", "train"),
        ("reference_count", 10000),
        ("count", 100),
        ("resize", "bicubic to 299"),
        ("features", "inception 1234"),
        ("estimators", {"proxy_fd": "another one"}),
    ],
)
def test_numbers_of_another_protocol_are_refused_with_what_differs(write, capsys, field, value):
    a, b = write("a", {"proxy_fd": 21.5}), write("b", {"proxy_fd": 19.0}, **{field: value})
    code, out, err = run(capsys, a, b)
    assert code == 1
    assert out == ""
    assert "may not be compared" in err
    assert f"\n  {field}" in err


def test_an_estimator_of_a_number_that_only_one_has_is_no_conflict(write):
    shared, more = {"proxy_fd": "x"}, {"proxy_fd": "x", "proxy_kid": "y"}
    a = Measured.read(write("a", {"proxy_fd": 1}, estimators=shared))
    b = Measured.read(write("b", {"proxy_fd": 2, "proxy_kid": 3}, estimators=more))
    assert conflicts(a, b) == []
    assert ("proxy_kid", "–", "3", "") in compare(a, b).rows


def test_other_settings_seeds_and_versions_are_told_beside(write, capsys):
    a, b = write("a", {"proxy_fd": 1}), write("b", {"proxy_fd": 1}, seed=7, settings={"guidance_scale": 1.0})
    code, out, _ = run(capsys, a, b)
    assert code == 0
    assert "also differs: seed: 0 against 7" in out
    assert "also differs: settings.guidance_scale:" in out


def test_scores_are_not_compared_with_numbers_without_a_protocol(write, tmp_path, capsys):
    write_json(tmp_path / "bare" / "metrics.json", {"proxy_fd": 1})
    code, _, err = run(capsys, write("a", {"proxy_fd": 1}), tmp_path / "bare" / "metrics.json")
    assert code == 1
    assert "only one of them has a protocol.json" in err


def test_a_revision_is_compared_stage_by_stage(write, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("metrics/evaluate", {"proxy_fd": 21.5})
    write("metrics/reconstruct", {"psnr": 23.0})
    write_json(tmp_path / "metrics" / "shard" / "metrics.json", {"train": 10})
    for words in (
        ["init", "-q"],
        ["add", "metrics"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "then"],
    ):
        subprocess.run(["git", *words], check=True)
    write("metrics/evaluate", {"proxy_fd": 19.0}, count=100)
    write("metrics/reconstruct", {"psnr": 24.0})
    code, out, _ = run(capsys, "--rev", "HEAD")
    assert code == 1
    assert "evaluate may not be compared" in out
    assert "count: 900 against 100" in out
    assert "+1 better" in out
    write("metrics/evaluate", {"proxy_fd": 19.0})
    assert run(capsys, "--rev", "HEAD")[0] == 0


def test_a_revision_that_git_does_not_know_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    for revision in ("nowhere", "--output=oops"):
        code, _, err = run(capsys, f"--rev={revision}")
        assert code == 1
        assert err.startswith(f"{revision} is not a revision of this repository")
    assert not (tmp_path / "oops").exists()


def test_two_files_or_a_revision_are_asked_for(write, capsys):
    code, _, err = run(capsys, write("a", {"proxy_fd": 1}))
    assert code == 2
    assert "expected two metrics.json files, or --rev" in err
