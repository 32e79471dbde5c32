"""The import arrows, and dvc.yaml's claims about code and params, as laws."""

import ast
import inspect
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from tests.committed import ROOT
from workflow.params import Params
from workflow.stage import stage_named
from workspace.code import PACKAGES, closure, code_deps, is_code, result_files
from workspace.settings import STAGES

EVERYONE = frozenset(PACKAGES)
ARROWS = {
    "workspace": frozenset({"workspace"}),
    "models": frozenset({"models"}),
    "shards": frozenset({"shards", "workspace"}),
    "demo": frozenset({"demo", "workspace"}),
    "inference": frozenset({"inference", "models", "settings", "shards", "workspace"}),
    "settings": frozenset({"settings", "evaluation", "models", "shards", "workspace"}),
    "training": frozenset({"training", "models", "settings", "shards", "workspace"}),
    "workflow": frozenset({"workflow", "evaluation", "settings", "shards", "workspace"}),
    "cluster": frozenset({"cluster", "workspace"}),
    "evaluation": frozenset({"evaluation", "shards", "workspace"}),
    "reporting": frozenset({"reporting", "evaluation", "models", "shards", "workspace"}),
    "stages": EVERYONE - {"stages"},
    "experiments": frozenset(
        {
            "experiments",
            "evaluation",
            "inference",
            "models",
            "reporting",
            "settings",
            "shards",
            "workflow",
            "workspace",
        }
    ),
    "pipelines": frozenset({"pipelines"}),
}
MODELS_MAY_USE = {"torch", "einops", "safetensors", "models"}
OWNERS = {
    "ray": "cluster",
    "dvc": "pipelines",
    "prefect": "pipelines",
    "dvclive": "training",
    "cleanfid": "evaluation",
}
FILES = sorted(path for package in (*PACKAGES, "pipelines") for path in (ROOT / package).rglob("*.py"))


@cache
def imported(path: Path) -> list[tuple[str, bool]]:
    """Top-level names of what a file imports, and whether at its top (not inside a function).

    What it imports only when it is the program itself (a command whose name is kept, though its code is in another room)
    is not counted: who imports the file does not get it.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and ast.unparse(node.test).startswith("__name__ == "))
    ]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name.split(".")[0], id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.append((node.module.split(".")[0], id(node) in top))
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def stages_of(name: str) -> dict[str, dict[str, Any]]:
    value: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))["stages"]
    return value


ENTRIES = stages_of("dvc.yaml") | stages_of("demo/dvc.yaml")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_follow_the_arrows(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    first_party = {name for name, _ in imported(path) if name in EVERYONE}
    assert first_party <= ARROWS[package], f"{name_of(path)} imports {sorted(first_party - ARROWS[package])}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_are_absolute_so_that_the_closure_sees_them(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_each_service_is_imported_by_its_owner_alone_and_lazily_outside_pipelines(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    for name, at_top in imported(path):
        if name in OWNERS:
            assert package == OWNERS[name], f"{name_of(path)} imports {name}"
            assert package == "pipelines" or not at_top, f"{name_of(path)} imports {name} at its top"


@pytest.mark.parametrize("path", sorted((ROOT / "models").rglob("*.py")), ids=name_of)
def test_models_need_torch_einops_and_safetensors_alone(path: Path) -> None:
    import sys

    allowed = MODELS_MAY_USE | (
        {"triton"} if path.name.endswith("kernels.py") else set()
    )  # torch for GPUs brings it
    outside = {name for name, _ in imported(path)} - allowed - set(sys.stdlib_module_names)
    assert not outside, f"{name_of(path)} imports {sorted(outside)}"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_its_import_closure(name: str) -> None:
    declared = [dep for dep in ENTRIES[name]["deps"] if is_code(dep)]
    assert declared == code_deps(ENTRIES[name]), "run `make deps`"


def test_the_closure_sees_imports_inside_functions_and_leaves_out_what_cannot_change_a_result() -> None:
    files = {path.as_posix() for path in closure("stages.train_mqvae")}
    assert {
        "models/mqvae/masker.py",
        "training/loop/train.py",
        "cluster/training.py",
        "workflow/running.py",
    } <= files
    results = {path.as_posix() for path in result_files("train_mqvae")}
    assert {"models/mqvae/masker.py", "training/loop/train.py", "workspace/exact/manifest.py"} <= results
    assert (
        not {"cluster/training.py", "workflow/running.py", "training/curves.py", "reporting/figures.py"}
        & results
    )
    assert "models/stackformer/model.py" not in {path.as_posix() for path in result_files("tokenize")}
    assert "models/mqvae/masker.py" not in {path.as_posix() for path in result_files("train_stackformer")}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_declares_the_section_that_it_reads_and_reads_no_other(name: str) -> None:
    stage = stage_named(name)
    assert stage.name == name and ENTRIES[name]["params"] == [stage.settings.SECTION]
    assert get_type_hints(Params)[stage.settings.SECTION] is stage.settings
    source = inspect.getsource(stage.run)
    given = list(inspect.signature(stage.run).parameters)
    assert given == ["settings", "compute", "inputs", "folder"]
    assert "environ" not in source and "argv" not in source


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_fits_a_page_and_its_run_a_screen(name: str) -> None:
    lines = len((ROOT / "stages" / f"{name}.py").read_text(encoding="utf-8").splitlines())
    assert lines <= 150, (
        f"stages/{name}.py has {lines} lines: move what is not plain values in, artifacts out"
    )
    assert len(inspect.getsourcelines(stage_named(name).run)[0]) <= 40


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "tests").rglob("*.py"))], ids=name_of)
def test_no_file_is_longer_than_350_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_says_in_its_help_what_it_reads_and_writes(name: str) -> None:
    text = stage_named(name).about
    assert "Reads " in text and "Writes " in text and "Params " in text


def test_the_workflow_and_the_stages_are_the_same_list() -> None:
    files = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert set(ENTRIES) == files == set(STAGES)


def test_the_type_checker_looks_at_every_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        checked = tomllib.load(file)["tool"]["mypy"]["packages"]
    assert sorted(checked) == sorted([*PACKAGES, "benchmarks", "pipelines"])


ONCE = {
    "blake2b": "workspace/exact/seeds.py",
    "127.5": "shards/images/pixels.py",
    "os.link": "workspace/links.py",
    "hardlink_to": None,
    "importlib.metadata": "workspace/versions.py",
    '"RayTaskError"': "cluster/losses.py",
}


@pytest.mark.parametrize("word", ONCE)
def test_a_primitive_is_written_once(word: str) -> None:
    found = [name_of(path) for path in FILES if word in path.read_text(encoding="utf-8")]
    assert found == [home for home in [ONCE[word]] if home]


def test_no_file_reads_a_pickle_that_can_run_code() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        for word in ("pickle.load", "allow_pickle=True", "weights_only=False"):
            assert word not in text, f"{name_of(path)} has {word}"
        assert text.count("torch.load(") == text.count("weights_only=True"), name_of(path)
