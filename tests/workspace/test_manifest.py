"""Laws of manifests: equal folders give equal fingerprints, and nothing half-written looks whole."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspace.errors import UserError
from workspace.exact.manifest import (
    atomic_path,
    canonical_json,
    kind_of,
    read_json,
    read_manifest,
    verify_files,
    write_manifest,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def artifact(folder: Path) -> Path:
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("one")
    (folder / "deep" / "b.txt").write_text("two")
    write_manifest(folder, "mqvae", {"n": 3}, made_from={"shards": "0" * 64})
    return folder


@given(JSON)
def test_canonical_json_reads_back_and_is_its_own_fixed_point(value: object) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value and canonical_json(json.loads(text)) == text


def test_equal_folders_have_equal_manifests_and_another_byte_another_fingerprint(tmp_path: Path) -> None:
    one, two = artifact(tmp_path / "one"), artifact(tmp_path / "two")
    assert (one / "manifest.json").read_bytes() == (two / "manifest.json").read_bytes()
    (two / "a.txt").write_text("won")
    changed = write_manifest(two, "mqvae", {"n": 3}, made_from={"shards": "0" * 64})
    assert changed.fingerprint != read_manifest(one, "mqvae").fingerprint


def test_what_was_written_is_read(tmp_path: Path) -> None:
    manifest = read_manifest(artifact(tmp_path / "one"), "mqvae")
    assert manifest.facts == {"n": 3} and sorted(manifest.files) == ["a.txt", "deep/b.txt"]
    verify_files(tmp_path / "one", manifest)


def test_damage_is_told_by_file_with_the_command_that_mends_it(tmp_path: Path) -> None:
    folder = artifact(tmp_path / "one")
    with pytest.raises(
        UserError, match="is an artifact of kind mqvae, expected image-shards: run `dvc repro shard`"
    ):
        read_manifest(folder, "image-shards")
    manifest = read_manifest(folder, "mqvae")
    (folder / "a.txt").write_text("eno")
    with pytest.raises(UserError, match="a.txt was changed: .* run `dvc repro train_mqvae`"):
        verify_files(folder, manifest)
    (folder / "a.txt").write_text("longer")
    with pytest.raises(UserError, match="a.txt has 6 bytes, but its manifest says 3"):
        read_manifest(folder, "mqvae")
    (folder / "a.txt").unlink()
    with pytest.raises(UserError, match="a.txt is missing"):
        read_manifest(folder, "mqvae")
    (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match="holds no finished artifact"):
        read_manifest(folder, "mqvae")


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="half way"), atomic_path(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise RuntimeError("half way")
    assert list(tmp_path.iterdir()) == []
    with atomic_path(tmp_path / "x") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "x").read_text() == "whole" and len(list(tmp_path.iterdir())) == 1


def test_a_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match="x.json is not JSON"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema": NaN}', b"[" * 99, b'{"schema": 3}', b'{"kind": "mqvae", "schema": 3}'],
)  # fmt: skip
def test_whatever_a_manifest_holds_the_error_names_the_command_that_makes_it_again(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(UserError, match=r"^[^\n]*: run `dvc repro train_mqvae`$"):
        read_manifest(tmp_path, "mqvae")
    if b"kind" not in data:
        with pytest.raises(
            UserError, match=r"^[^\n]*(: make it again with `dvc repro`|; expected one of .*)$"
        ):
            kind_of(tmp_path)
