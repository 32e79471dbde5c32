"""`make test` never judges what is the user's: params.yaml, dvc.lock, metrics/, artifacts/ and such (tests/committed.py)."""

import ast
import os
import re
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest

from tests import committed, presets
from tests.committed import ENVIRONMENT, ROOT, USERS, is_the_users
from tests.waiting import slowness

COMMANDS = {
    "tests/committed.py",
    "tests/field/render.py",
    "tests/hostile/render.py",
    "tests/hostile/results.py",
    "tests/chaos/run.py",
    "tests/load.py",
}
"""Files that work in the root by design: what `make field` and its like run there is pytest, git and the docs."""
SOURCES = sorted((ROOT / "tests").rglob("*.py"))
CAREFUL = "def test_one():\n    pass\n"
CARELESS = """
from pathlib import Path
import json, os
import pytest
ROOT = Path(__file__).resolve().parents[1]
@pytest.mark.parametrize("name", ["params.yaml", "dvc.lock", "demo/dvc.lock", "metrics/evaluate/metrics.json", ".runs/a/run.json",
                                  "artifacts/tokens/manifest.json", "data/mine/a.png", "tests/../params.yaml"])
def test_reads(name):
    (ROOT / name).read_bytes()
def test_lists():
    list((ROOT / "artifacts").rglob("*.json"))
def test_scans():
    os.listdir(ROOT / "metrics")
def test_of_a_relative_path():
    assert not Path("params.yaml").exists()
"""


def readers() -> list[str]:
    """Node ids of the suite's tests that look at this tree, found by their names for it.

    Left out: those that work in a copy or start processes (which start elsewhere: a law below), and files of tensors, for their
    time; the guard of tests/conftest.py is upon them in every run.
    """
    found = []
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        if not path.name.startswith("test_") or path == Path(__file__).resolve() or "torch" in imported:
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                names = names_behind(node.name, tree)
                if names & {"ROOT", "committed", "root"} and not names & ELSEWHERE:
                    found.append(f"{path.relative_to(ROOT).as_posix()}::{node.name}")
    return found


ELSEWHERE = {
    "subprocess",
    "Kit",
    "helps",
    "run_in",
    "finished_repository",
    "make_world",
    "CASES",
    "FILES",
    "Tree",
}
"""What a test uses that starts processes, works in a copy, looks at every source file, or judges the commit's dvc.lock."""


def names_behind(name: str, tree: ast.Module) -> set[str]:
    """The names that a function uses, its decorators and fixtures too, through what its module defines."""
    defined: dict[str, ast.AST] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined[node.name] = node
        elif isinstance(node, ast.Assign):
            defined |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
    found: set[str] = set()
    waiting = {name}
    while waiting:
        found |= waiting
        nodes = [node for name in waiting if name in defined for node in ast.walk(defined[name])]
        used = {node.id for node in nodes if isinstance(node, ast.Name)}
        waiting = used | {node.arg for node in nodes if isinstance(node, ast.arg)}
        waiting -= found
    return found


def clone(folder: Path) -> Path:
    """This repository at its commit, with the working tree's code, docs and tests."""
    source = ["git", "-c", "core.hooksPath=/dev/null", "clone", "-q", "--shared", str(ROOT), str(folder)]
    subprocess.run(source, env=ENVIRONMENT, check=True)
    ours = set(committed.working_names())
    for name in committed.names():
        if name not in ours and not is_the_users(name):
            (folder / name).unlink()
    for name in ours:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


def spoil(folder: Path) -> None:
    """What may lie about: another preset with slips, another CPU's numbers, half an artifact, a lock of another life."""
    flowers = presets.text("flowers")
    committed.write(
        folder,
        {
            "params.yaml": flowers.replace("mask_ratio:", "mask_ratoi:") + "mine: [1,\n",
            "dvc.lock": "schema: '2.0'\nstages: {shard: {cmd: rm -rf, outs: [{path: artifacts/mine, md5: 0}]}}\n",
            "demo/dvc.lock": "half a fi",
            "artifacts/tokens/manifest.json": "{",
            "artifacts/report/index.html": "<p>mine",
            ".runs/train_mqvae/00/run.json": "",
            "data/mine/a.png": "no picture",
            "mine.py": "raise SystemExit('the user’s own file was run')\n",
            ".dvc/config": "[core]\n    remote = nowhere\n",
        },
    )
    for path in (folder / "metrics").rglob("*.json"):
        path.write_text(re.sub(r"\d+\.\d+", "0.12345", path.read_text(encoding="utf-8")), encoding="utf-8")
    shutil.rmtree(folder / "metrics" / "sample")


def pytest_in(folder: Path, *words: str) -> tuple[int, str]:
    """Pytest's exit status and what it says of tests in a repository, run from its root as a git hook would."""
    plain = ENVIRONMENT | {"PYTHONPATH": str(folder), "GIT_DIR": str(folder / ".git")}
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-q", "--tb=short", *words]
    done = subprocess.run(
        command, cwd=folder, env=plain, capture_output=True, text=True, check=False, timeout=300 * slowness()
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which everything of the user's is another."""
    committed.needs_a_commit()
    folder = clone(tmp_path_factory.mktemp("spoilt") / "repository")
    spoil(folder)
    return folder


def test_the_readers_pass_where_everything_of_the_users_is_another(spoilt: Path) -> None:
    assert len({name.split("::")[0] for name in readers()}) >= 10
    status, said = pytest_in(spoilt, *readers())
    assert status == 0, said[-3000:]


def test_a_test_that_reads_what_is_the_users_is_failed(spoilt: Path) -> None:
    committed.write(spoilt, {"tests/test_careless.py": CARELESS})
    status, said = pytest_in(spoilt, "-rfp", "tests/test_careless.py")
    assert status == 1 and said.count("FAILED tests/test_careless.py") == 10, said[-3000:]
    assert said.count("Failed: a test read the user's") >= 10
    assert "PASSED tests/test_careless.py::test_of_a_relative_path" in said
    (spoilt / "tests" / "test_careless.py").unlink()


def test_what_lies_about_is_in_no_copy(spoilt: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", "from tests.committed import working_names; print(*working_names(), sep='\\n')"],
        cwd=spoilt, env=ENVIRONMENT | {"PYTHONPATH": str(spoilt)}, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    assert "mine.py" not in said and "presets/shapes.yaml" in said and "tests/test_users_files.py" in said
    assert not [name for name in said if name.split("/")[0] in USERS or name.endswith("dvc.lock")]
    assert {"params.yaml", "dvc.lock", "metrics/evaluate/metrics.json"} <= set(committed.names())


def test_an_archive_of_the_tree_is_walked_and_has_no_commit(spoilt: Path, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    shutil.copytree(spoilt, folder, ignore=shutil.ignore_patterns(".git"))
    code = (
        "from tests import committed; print(committed.head()); print(*committed.working_names(), sep='\\n')"
    )
    first, *names = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=ENVIRONMENT | {"PYTHONPATH": str(folder)},
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert first == "None" and {"presets/shapes.yaml", "dvc.yaml", ".dvcignore"} <= set(names)
    assert not [name for name in names if is_the_users(name)]


def last_name(called: ast.expr) -> str:
    """The name of what is called, without the object or module that it is of."""
    return str(getattr(called, "attr", getattr(called, "id", "")))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_process_starts_in_the_root_and_no_path_is_the_users(path: Path) -> None:
    if path.relative_to(ROOT).as_posix() in COMMANDS:
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    ours = {"ROOT", "committed.ROOT"} | ({"root"} - own)  # else it is the fixture
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "cwd":
            assert ast.unparse(node.value) not in ours, f"{path}: cwd={ast.unparse(node.value)}"
        if isinstance(node, ast.Call) and last_name(node.func).endswith("chdir"):
            assert not ours & {ast.unparse(argument) for argument in node.args}, (
                f"{path}: {ast.unparse(node)}"
            )
        if (
            isinstance(node, ast.BinOp)
            and isinstance(node.right, ast.Constant)
            and ast.unparse(node.left) in ours
        ):
            assert not is_the_users(str(node.right.value)), f"{path}: {ast.unparse(node)}: use committed.text"


def test_the_environment_of_a_git_hook_leads_no_test_astray() -> None:
    assert not [name for name in os.environ if name.startswith("GIT_") and name != "GIT_CONFIG_GLOBAL"]
    assert Path.cwd() != ROOT and ROOT not in Path.cwd().parents


def test_dvc_has_no_configuration_of_the_users_and_tells_no_host(tmp_path: Path) -> None:
    config = pytest.importorskip("dvc.config", reason="DVC is not installed").Config
    with chdir(tmp_path):
        found = config.from_cwd(validate=False)
    assert found["core"] == {"analytics": "false", "check_update": "false"} and not found["remote"]
