"""Laws of protocols: which numbers may be compared."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.protocol import (
    MUST_MATCH,
    Protocol,
    Provenance,
    Score,
    counted,
    write_numbers,
)
from workspace.errors import UserError
from workspace.exact.manifest import read_json, write_json
from workspace.versions import OF_SCORES, versions

PROTOCOL = Protocol(
    reference="abc",
    reference_split="val",
    reference_count=900,
    count=900,
    resize="none",
    features="proxy, weights 123",
    estimators={"proxy_fd": "Fréchet", "psnr": "decibels"},
    settings={"top_k": 10},
    seed=0,
    made_from={"samples": "def"},
    versions={"torch": "2"},
)


def test_a_protocol_reads_back_what_was_written(tmp_path: Path) -> None:
    PROTOCOL.write(tmp_path)
    assert Protocol.read(tmp_path) == PROTOCOL


def test_numbers_of_equal_protocols_may_be_compared() -> None:
    assert PROTOCOL.conflicts(PROTOCOL, frozenset(PROTOCOL.estimators)) == []
    assert PROTOCOL.differences(PROTOCOL) == []


@pytest.mark.parametrize("name", [name for name in MUST_MATCH if name != "estimators"])
def test_another_reference_count_resize_or_network_is_a_conflict(name: str) -> None:
    value: Any = 5 if name in ("count", "reference_count") else "other"
    other = replace(PROTOCOL, **{name: value})
    assert [line.partition(":")[0] for line in PROTOCOL.conflicts(other, frozenset({"proxy_fd"}))] == [name]


def test_another_estimator_is_a_conflict_for_its_number_alone() -> None:
    other = replace(PROTOCOL, estimators={"proxy_fd": "square root of a matrix", "psnr": "decibels"})
    assert PROTOCOL.conflicts(other, frozenset({"proxy_fd"})) != []
    assert PROTOCOL.conflicts(other, frozenset({"psnr"})) == []


def test_other_sampling_settings_seeds_and_versions_are_only_shown() -> None:
    other = replace(PROTOCOL, settings={"top_k": 1}, seed=1, versions={"torch": "3"})
    assert PROTOCOL.conflicts(other, frozenset(PROTOCOL.estimators)) == []
    assert PROTOCOL.differences(other) == [
        "settings.top_k: 10 against 1",
        "seed: 0 against 1",
        "versions.torch: 2 against 3",
    ]


def test_a_setting_that_only_one_has_is_shown() -> None:
    other = replace(PROTOCOL, settings={"top_k": 10, "code": {"top_p": 0.8}}, warnings=("few images",))
    assert PROTOCOL.differences(other) == [
        "settings.code: – against {'top_p': 0.8}",
        "warnings: none against few images",
    ]


def test_numbers_are_written_beside_their_protocol_and_its_warnings_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {"fid": Score(1.5, "how"), "kid": Score(0.5, "how else")}
    write_numbers(scores, replace(PROTOCOL, warnings=("too few images",)), tmp_path)
    assert read_json(tmp_path / "metrics.json") == {"fid": 1.5, "kid": 0.5}
    assert Protocol.read(tmp_path).estimators == {"fid": "how", "kid": "how else"}
    assert "note: too few images" in capsys.readouterr().err


def test_counted_numbers_name_the_data_they_were_counted_on(tmp_path: Path) -> None:
    made = Provenance(20, {"steps": 3}, 7, {"mqvae": "def"})
    counted({"psnr": Score(20.0, "decibels")}, "abc", "val", made, tmp_path)
    found = Protocol.read(tmp_path)
    assert (found.reference, found.reference_split, found.count, found.features) == ("abc", "val", 20, "none")
    assert (found.settings, found.seed, found.made_from) == ({"steps": 3}, 7, {"mqvae": "def"})


def test_a_protocol_of_another_version_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "protocol.json", {"count": 1})
    with pytest.raises(UserError, match="holds count; expected count, estimators"):
        Protocol.read(tmp_path)


def test_versions_name_the_packages_that_scores_depend_on() -> None:
    assert {"numpy", "scipy", "torch"} <= versions(OF_SCORES).keys()
