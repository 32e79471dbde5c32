"""Which first-party files decide a stage's result, and how dvc.yaml names them: by folder.

They are the stage's import closure, less what cannot change a result. A file beside a module that the module
names in a string (a page's template) counts as imported by it.

A folder in a room is one dependency, since its files are needed together; a file directly in a room is one by itself. Where
a stage needs every file of a room that can change a result, the room itself is named.

python -m workspace.code           check that dvc.yaml names them
python -m workspace.code --write   rewrite the code part of each stage's deps in dvc.yaml (`make deps`)
"""

import argparse
import ast
import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from workspace.progress import say
from workspace.settings import STAGES

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "cluster",
    "demo",
    "evaluation",
    "experiments",
    "inference",
    "models",
    "reporting",
    "settings",
    "shards",
    "stages",
    "training",
    "workflow",
    "workspace",
)
PIPELINES = (
    "dvc.yaml",
    "demo/dvc.yaml",
    "experiments/table6/dvc.yaml",
    "experiments/table7/dvc.yaml",
    "experiments/court/dvc.yaml",
    "experiments/figure6/dvc.yaml",
    "experiments/real/dvc.yaml",
    "experiments/longer/dvc.yaml",
    "experiments/text/dvc.yaml",
)
ARM = "experiments.arm"
"""The module that runs stages one after the other, named in its command. A hundred such stages, each with all its folders, would
cost every DVC command a second, so they name rooms (decisions/0007)."""
DATA = re.compile(r"[\w.-]+\.\w+")
"""What a string looks like that may name a file beside its module."""

EXCLUDED = (
    "cluster/",
    "workflow/",
    "workspace/",
    "training/curves.py",
    "training/mirror.py",
    "stages/__init__.py",
)
"""What cannot change a result: where work runs, how a stage is started and its params file is checked as a whole, the
workspace's mechanics, logging, copies of checkpoints."""

DECIDING = "workspace/exact/"
"""What can, though it is there."""

EXCLUDED_IN_TRAINING = ("reporting/", "evaluation/protocol.py", "evaluation/codes/")
"""And in the training stages what draws pictures of a run on its way, and what its numbers say of themselves."""

WHOLE: dict[str, tuple[str, ...]] = {
    "reconstruct": ("evaluation",),
    "evaluate": ("evaluation",),
    "report": ("evaluation", "reporting"),
}
"""Rooms that a stage names whole, though it needs most of one and not all: it scores or shows, and nothing is trained on that."""

APART = ("demo", "workspace")
"""Rooms that no stage names whole: a pipeline and its lock lie in one, what cannot change a result in the other."""


def excluded(path: Path, stage: str) -> bool:
    """Whether a file of a stage's import closure cannot change its result."""
    if path.as_posix().startswith(DECIDING):
        return False
    prefixes = EXCLUDED + (EXCLUDED_IN_TRAINING if stage.startswith("train_") else ())
    return path.as_posix().startswith(prefixes)


def closure(module: str, without: Callable[[Path], bool] = lambda path: False) -> list[Path]:
    """The first-party files that `module` imports, itself included, imports inside functions too; relative to the root.

    Args:
        module: a dotted name, "stages.shard".
        without: files that are left out, with what only they import.
    """
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        for path in _files(waiting.pop()):
            if path not in found and not without(path):
                imported, beside = _needs(path)
                found.update((path, *beside))
                waiting += imported
    return sorted(found)


def result_files(stage: str) -> list[Path]:
    """The files that decide what a stage writes, relative to the root; those that hold a docstring alone decide nothing."""
    found = closure(f"stages.{stage}", lambda path: excluded(path, stage))
    return [path for path in found if not _is_prose(path)]


@cache
def _is_prose(path: Path) -> bool:
    """Whether a module is its docstring, as a folder's `__init__.py` is."""
    if path.suffix != ".py":
        return False
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    return len(body) == 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)


def folder_of(path: Path) -> str:
    """What dvc.yaml names a file by: the folder in a room that holds it, or the file where it is directly in the room."""
    return "/".join(path.parts[:2])


@cache
def _room(name: str) -> frozenset[str]:
    """What a room is made of: its folders, and the modules that lie in it."""
    paths = [path.relative_to(ROOT) for path in (ROOT / name).rglob("*.py")]
    return frozenset(folder_of(path) for path in paths if not _is_prose(path))


def named(paths: Iterable[Path], whole: Iterable[str] = ()) -> list[str]:
    """Files as dvc.yaml names them, sorted: a room where it is in `whole` or all of it is needed, else folders and files."""
    rooms: dict[str, set[str]] = {}
    for path in paths:
        rooms.setdefault(path.parts[0], set()).add(folder_of(path))
    complete = {room for room, needed in rooms.items() if room in whole or _is_complete(room, needed)}
    return sorted(name for room, needed in rooms.items() for name in ([room] if room in complete else needed))


def _is_complete(room: str, needed: set[str]) -> bool:
    """Whether a room of folders is needed in all its parts; one of single files may hold a pipeline and its lock beside them."""
    return needed == _room(room) and any((ROOT / name).is_dir() for name in needed)


def _files(module: str) -> Iterator[Path]:
    """The file of a module, and the `__init__.py` of its packages; nothing for a name that is not one of our modules."""
    names = module.split(".")
    if names[0] not in PACKAGES:
        return
    for depth in range(1, len(names) + 1):
        package = Path(*names[:depth], "__init__.py")
        if (ROOT / package).is_file():
            yield package
    path = Path(*names).with_suffix(".py")
    if (ROOT / path).is_file():
        yield path


@cache
def _needs(path: Path) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """Modules that a file imports (`from a import b` gives a and a.b, of which one is a module), and data files beside it."""
    names: list[str] = []
    beside = []
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and DATA.fullmatch(node.value):
            beside += [path.with_name(node.value)] if (ROOT / path).with_name(node.value).is_file() else []
    return tuple(names), tuple(beside)


def code_deps(stage: dict[str, Any]) -> list[str]:
    """The code part of a stage's deps in dvc.yaml, as the closures of its command's modules say."""
    words = stage["cmd"].split()
    module = words[words.index("-m") + 1]
    if module != ARM and not module.startswith("stages."):
        return []  # it writes out settings; what a stage reads of them is declared
    if module != ARM:
        name = module.removeprefix("stages.")
        return named(result_files(name), WHOLE.get(name, ()))
    paths = {path for word in words if word in STAGES for path in result_files(word)}
    return sorted({folder_of(path) if path.parts[0] in APART else path.parts[0] for path in paths})


def is_code(dependency: Any) -> bool:
    """Whether an entry of a stage's deps is a first-party file or folder (no input is in a package)."""
    return isinstance(dependency, str) and dependency.split("/")[0] in PACKAGES


def rewrite(tree: dict[str, Any]) -> list[str]:
    """Put the code that each stage needs in its deps, after its inputs.

    Args:
        tree: a dvc.yaml as it was read; changed in place.

    Returns:
        Names of the stages whose deps were others.
    """
    changed = []
    for name, stage in tree["stages"].items():
        deps, code = stage.setdefault("deps", []), code_deps(stage)
        if [dep for dep in deps if is_code(dep)] != code:
            for index in reversed(range(len(deps))):  # in place: the other entries keep their comments
                if is_code(deps[index]):
                    del deps[index]
            deps.extend(code)
            changed.append(name)
    return changed


def rewritten(text: str) -> tuple[str, list[str]]:
    """The text of a dvc.yaml with its code deps rewritten, all else as it is, and the stages that this changed."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 1_000_000  # no line is broken
    yaml.indent(mapping=2, sequence=4, offset=2)
    tree = yaml.load(text)
    changed = rewrite(tree)
    if not changed:
        return text, []
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue(), changed


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m workspace.code", description="Code dependencies in dvc.yaml."
    )
    parser.add_argument("--write", action="store_true", help="rewrite them")
    write = parser.parse_args().write
    for name in PIPELINES:
        text, changed = rewritten((ROOT / name).read_text(encoding="utf-8"))
        if changed and not write:
            sys.exit(f"{name}: the deps of {', '.join(changed)} are not its imports: run `make deps`")
        if changed:
            (ROOT / name).write_text(text, encoding="utf-8")
            say(f"{name}: rewrote the deps of {', '.join(changed)}")


if __name__ == "__main__":
    main()
