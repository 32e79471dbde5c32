"""What DVC calls stale after an edit of any first-party file, against the table in docs/staleness.md."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.committed import ROOT, copy_of_the_working_tree, working_names
from workspace.code import PACKAGES, result_files
from workspace.settings import STAGES

TABLE = "docs/staleness.md"
ROOMS = (*PACKAGES, "pipelines")
FILES = sorted(
    name
    for name in working_names()
    if name.split("/")[0] in ROOMS and (ROOT / name).is_file() and not name.endswith(("dvc.yaml", "dvc.lock"))
)
TRAININGS = {"train_mqvae", "train_stackformer"}


@dataclass(frozen=True)
class Row:
    """A row of the table: folders and files, what their edit makes stale, and which of these stages do not need all of it."""

    paths: tuple[str, ...]
    stale: frozenset[str]
    too_much: frozenset[str]

    def depth(self, file: str) -> int:
        """Length of the path that holds a file; 0 where none does."""
        return max((len(path) for path in self.paths if f"{file}/".startswith(f"{path}/")), default=0)


def _rows() -> Iterator[Row]:
    for line in (ROOT / TABLE).read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            edited, *stages = line.strip("|").split("|")
            paths = tuple(re.findall(r"`([^`]+)`", edited.split(" (")[0]))
            yield Row(paths, *(frozenset(re.findall(r"\w+", cell)) for cell in stages))


ROWS = list(_rows())


def row_of(file: str) -> Row:
    """The deepest row that holds a file."""
    row = max(ROWS, key=lambda row: row.depth(file))
    assert row.depth(file), f"{TABLE} has no row for {file}"
    return row


@pytest.fixture(scope="module")
def stale(tmp_path_factory: pytest.TempPathFactory) -> dict[str, frozenset[str]]:
    """Each first-party file → the stages of which DVC finds another hash of a dependency, once a line is added to it."""
    pytest.importorskip("dvc", reason="DVC is not installed")
    from dvc.repo import Repo

    root = tmp_path_factory.mktemp("staleness") / "code"
    copy_of_the_working_tree(root)
    (root / "params.yaml").write_bytes((ROOT / "presets" / "shapes.yaml").read_bytes())
    with Repo(str(root), config={"core": {"no_scm": True}}) as repo:
        dependencies = [
            (Path(dep.fs_path).relative_to(root), dep, stage.addressing.rpartition(":")[2])
            for stage in repo.index.stages
            for dep in stage.deps
            if Path(dep.fs_path).relative_to(root).parts[0] in ROOMS
        ]
        return {file: _after_an_edit(root / file, file, dependencies) for file in FILES}


def _after_an_edit(path: Path, file: str, dependencies: list[tuple[Path, Any, str]]) -> frozenset[str]:
    """Which stages have a dependency in the file's room whose hash is another while the file has a line more."""
    near = [(dep, stage) for name, dep, stage in dependencies if name.parts[0] == file.split("/")[0]]
    before = [dep.get_hash() for dep, _ in near]
    text = path.read_bytes()
    path.write_bytes(text + b"# a comment\n")
    after = [dep.get_hash() for dep, _ in near]
    path.write_bytes(text)
    return frozenset(stage for (_, stage), old, new in zip(near, before, after, strict=True) if old != new)


def test_dvc_calls_stale_what_the_table_says_for_each_first_party_file(
    stale: dict[str, frozenset[str]],
) -> None:
    wrong = [
        f"| `{file}` | {', '.join(name for name in STAGES if name in found)} |"
        for file, found in stale.items()
        if found != row_of(file).stale
    ]
    assert not wrong, f"{TABLE} says otherwise of these; mend the table or the deps:\n" + "\n".join(wrong)


def test_the_last_column_names_the_stages_that_run_again_for_code_that_they_do_not_import(
    stale: dict[str, frozenset[str]],
) -> None:
    needs = {name: {path.as_posix() for path in result_files(name)} for name in STAGES}
    found: dict[Row, set[str]] = {row: set() for row in ROWS}
    for file, stages in stale.items():
        assert {name for name in STAGES if file in needs[name]} <= stages, f"{file} is missed"
        if not file.endswith("__init__.py"):
            found[row_of(file)] |= {name for name in stages if file not in needs[name]}
    assert {row.paths: row.too_much for row in ROWS} == {row.paths: names for row, names in found.items()}


def test_no_training_runs_again_for_code_that_it_does_not_import(stale: dict[str, frozenset[str]]) -> None:
    assert not [row.paths for row in ROWS if row.too_much & TRAININGS]
    for file in ("shards/token_making/readme.py", "evaluation/protocol.py", "reporting/figures.py"):
        assert stale[file] and not stale[file] & TRAININGS


def test_the_workflow_fits_a_page() -> None:
    lines = (ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200 and max(map(len, lines)) <= 160
