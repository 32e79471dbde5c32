"""The committed dvc.lock agrees with the committed code: what `dvc status` would say of a clean clone, from the commit alone.

DVC ≥ 3 hashes a file, text too, by the MD5 of its bytes (`hash: md5`; before it, text lost its carriage returns first), and a
folder by the MD5 of the JSON list of its files' hashes and relative paths, sorted by path, with `.dir` behind.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from tests import committed
from tests.tiny import finished_repository, run

PIPELINES = ("dvc.yaml", "demo/dvc.yaml")


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Tree:
    """Files of a commit.

    Attributes:
        names: relative to its root.
        data: a file's bytes, by name.
    """

    names: list[str]
    data: Callable[[str], bytes]

    @cached_property
    def params(self) -> Any:
        return yaml.safe_load(self.data("params.yaml"))

    @cached_property
    def stages(self) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        """Stage → its entry in dvc.yaml and the one in dvc.lock."""
        found = {}
        for name in PIPELINES:
            locked = yaml.safe_load(self.data(name.replace(".yaml", ".lock")))["stages"]
            for stage, entry in yaml.safe_load(self.data(name))["stages"].items():
                found[stage] = (entry, locked.get(stage, {"cmd": ""}))
        return found

    def hash_of(self, name: str) -> str | None:
        """DVC's hash of a file or folder; None for what the commit has not (an artifact, the user's own data)."""
        if name in self.names:
            return md5(self.data(name))
        below = [file for file in self.names if file.startswith(f"{name}/")]
        if not below:
            return None
        below.sort(key=lambda file: PurePosixPath(file).parts)
        listed = [{"md5": md5(self.data(file)), "relpath": file[len(name) + 1 :]} for file in below]
        return md5(json.dumps(listed, sort_keys=True).encode()) + ".dir"

    def paths_of(self, entries: list[Any]) -> list[str]:
        """The paths of a stage's deps or outs in dvc.yaml, settings filled in."""
        plain = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
        return [self.filled_in(path) for path in plain]

    def filled_in(self, path: str) -> str:
        """A path with what DVC puts in place of `${section.key}`."""
        variables = {**self.params, "empty": ""}
        return re.sub(
            r"\$\{([\w.]+)\}",
            lambda found: str(reduce(lambda node, key: node[key], found[1].split("."), variables)),
            path,
        )

    def changes(self, stage: str) -> list[str]:
        """What `dvc status` would call changed of a stage, but for outputs that a clean clone has not."""
        entry, lock = self.stages[stage]
        made = {out["path"]: out["md5"] for _, other in self.stages.values() for out in other.get("outs", [])}
        found = [] if entry["cmd"].split() == lock["cmd"].split() else ["cmd"]
        for kind in ("deps", "outs"):
            locked = {path["path"]: path["md5"] for path in lock.get(kind, [])}
            paths = set(self.paths_of(entry.get(kind, [])))
            found += paths ^ set(locked)
            for path in paths & set(locked):
                now = self.hash_of(path) or (made.get(path) if kind == "deps" else None)
                found += [path] if now not in (None, locked[path]) else []
        params = {name: self.params.get(name) for name in entry.get("params", [])}
        if params != lock.get("params", {}).get("params.yaml", {}):
            found.append(f"params.yaml: {', '.join(params)}")
        return sorted(found)

    def disagreements(self) -> dict[str, list[str]]:
        """Stage → what has changed since it ran, for the stages that `dvc status` calls changed on a clean clone."""
        told = {stage: self.changes(stage) for stage in self.stages}
        return {stage: found for stage, found in told.items() if found}


def test_the_committed_lock_is_that_of_the_committed_code_settings_and_numbers() -> None:
    found = Tree(committed.names(), committed.data).disagreements()
    lines = [f"{stage}: {', '.join(paths)}" for stage, paths in found.items()]
    assert not found, (
        "`dvc status` calls these changed on a clean clone; run `dvc repro` (`dvc commit` where no result changes) "
        "and commit dvc.lock, demo/dvc.lock and metrics/:\n" + "\n".join(lines)
    )


def test_the_commits_lock_names_files_by_the_md5_of_their_bytes() -> None:
    for name in ("dvc.lock", "demo/dvc.lock"):
        for lock in yaml.safe_load(committed.data(name))["stages"].values():
            assert {path["hash"] for kind in ("deps", "outs") for path in lock[kind]} == {"md5"}


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("README.md", "", "", set()),
        (
            "models/stackformer/model.py",
            '"""Stackformer',
            '"""A Stackformer',
            {"train_stackformer", "sample"},
        ),
        ("params.yaml", "guidance_scale: 3.0", "guidance_scale: 2.5", {"sample"}),
        ("params.yaml", "workers: 0", "workers: 1", set()),
        ("params.yaml", "source: artifacts/shapes", "source: data/mine", {"shard"}),
        ("metrics/tokenize/metrics.json", "{", "{ ", {"tokenize", "report"}),
        ("dvc.yaml", "stages.tokenize --shards", "stages.tokenize -v --shards", {"tokenize"}),
    ],
)
def test_an_edit_after_a_run_is_named_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, name: str, old: str, new: str, expected: set[str]
) -> None:
    pytest.importorskip("dvc", reason="DVC is not installed")
    root = finished_repository(tmp_path_factory)
    names = run(root, "git", "ls-files").splitlines()

    def edited(file: str) -> bytes:
        data = (root / file).read_bytes()
        assert file != name or old.encode() in data
        return data.replace(old.encode(), new.encode(), 1) if file == name else data

    assert set(Tree(names, edited).disagreements()) == expected


def test_a_lock_whose_inputs_are_not_what_their_stage_made_is_named(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    pytest.importorskip("dvc", reason="DVC is not installed")
    root: Path = finished_repository(tmp_path_factory)
    lock = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))
    for out in lock["stages"]["tokenize"]["outs"]:
        out["md5"] = "0" * 32 + ".dir" if out["path"] == "artifacts/tokens" else out["md5"]
    other = yaml.safe_dump(lock).encode()
    tree = Tree(
        run(root, "git", "ls-files").splitlines(),
        lambda file: other if file == "dvc.lock" else (root / file).read_bytes(),
    )
    assert set(tree.disagreements()) == {"train_stackformer"}
