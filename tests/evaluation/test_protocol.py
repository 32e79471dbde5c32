"""Laws of protocols: which numbers may be compared."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.protocol import MUST_MATCH, Protocol, package_versions
from workspace.errors import UserError
from workspace.manifest import write_json

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
    assert [line.partition(":")[0] for line in PROTOCOL.differences(other)] == [
        "settings",
        "seed",
        "versions",
    ]


def test_a_protocol_of_another_version_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "protocol.json", {"count": 1})
    with pytest.raises(UserError, match="holds count; expected count, estimators"):
        Protocol.read(tmp_path)


def test_versions_name_the_packages_that_scores_depend_on() -> None:
    assert {"numpy", "scipy", "torch"} <= package_versions().keys()
