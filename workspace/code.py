"""Finds the first-party files that affect a stage's result, and writes them into dvc.yaml, by folder.

They are the stage's import closure without the modules that cannot change a result. A data file that a module names in a
string, such as a page's template in the same folder, counts as imported.

A folder in a room is one dependency, because its files are needed together; a file directly in a room is one by itself. If a
stage needs every file of a room that can change a result, the room itself is named.

The main pipeline's training also gets the manifest of each set that `mqvae.sources` in params.yaml names (decision 0067).

python -m workspace.code           check that dvc.yaml names them
python -m workspace.code --write   rewrite the code part of each stage's deps in dvc.yaml (`make deps`)
"""

import ast
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.progress import say
from workspace.settings import STAGES, read_tree

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "cluster", "demo", "evaluation", "experiments", "inference", "models", "reporting", "settings",
    "shards", "stages", "training", "workflow", "workspace",
)  # fmt: skip
PIPELINES = (
    "dvc.yaml", "demo/dvc.yaml", "experiments/table6/dvc.yaml", "experiments/table7/dvc.yaml",
    "experiments/court/dvc.yaml", "experiments/court_photographs/dvc.yaml", "experiments/figure6/dvc.yaml",
    "experiments/real/dvc.yaml", "experiments/longer/dvc.yaml", "experiments/text/dvc.yaml",
    "experiments/tuning/dvc.yaml",
)  # fmt: skip
ARM = "experiments.arm"
"""The module that runs several stages in one command. Naming all folders for a hundred such stages would cost every DVC command a
second, so these stages name rooms (decisions/0007)."""
DATA = re.compile(r"[\w.-]+\.\w+")
"""The form of a string that may name a file in its module's folder."""

EXCLUDED = (
    "cluster/", "workflow/", "workspace/", "training/curves.py", "training/events.py", "training/mirror.py", "stages/__init__.py",
)  # fmt: skip
"""Modules that cannot change a result: where work runs, how a stage starts and its params file is checked as a whole, run
folders, logging, copies of checkpoints."""

DECIDING = "workspace/exact/"
"""Exceptions among these, which can."""

EXCLUDED_IN_TRAINING = ("reporting/", "evaluation/protocol.py", "evaluation/codes/")
"""In training stages also the modules that draw pictures during a run, and those that describe its numbers."""

WHOLE: dict[str, tuple[str, ...]] = {
    "reconstruct": ("evaluation",),
    "sample": ("inference",),
    "evaluate": ("evaluation",),
    "report": ("evaluation", "reporting"),
}
"""Stages that name a room even if they need only most of it: they score or display, so a needless rerun trains nothing."""

NO_SETTINGS: Mapping[str, Any] = {}

APART = ("demo", "workspace")
"""Rooms that no stage names whole: one contains a pipeline and its lock, the other modules that cannot change a result."""


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
        without: files to leave out, along with what only they import.
    """
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        for path in _files(waiting.pop()):
            if path not in found and not without(path):
                facts = _facts(path)
                found.update((path, *facts.beside))
                waiting += facts.names
    return sorted(found)


def result_files(stage: str) -> list[Path]:
    """The files that affect what a stage writes, relative to the root, without files that hold only a docstring."""
    found = closure(f"stages.{stage}", lambda path: excluded(path, stage))
    return [path for path in found if path.suffix != ".py" or not _facts(path).prose]


def folder_of(path: Path) -> str:
    """A file's name in dvc.yaml: its folder in a room, or the file itself if it is directly in the room."""
    return "/".join(path.parts[:2])


@cache
def _room(name: str) -> frozenset[str]:
    """A room's content: its folders, and the modules directly in it."""
    paths = [path.relative_to(ROOT) for path in (ROOT / name).rglob("*.py")]
    return frozenset(folder_of(path) for path in paths if not _facts(path).prose)


def named(paths: Iterable[Path], whole: Iterable[str] = ()) -> list[str]:
    """Files as named in dvc.yaml, sorted: a room if it is in `whole` or needed completely, else folders and files."""
    rooms: dict[str, set[str]] = {}
    for path in paths:
        rooms.setdefault(path.parts[0], set()).add(folder_of(path))
    complete = {room for room, needed in rooms.items() if room in whole or _is_complete(room, needed)}
    return sorted(name for room, needed in rooms.items() for name in ([room] if room in complete else needed))


def _is_complete(room: str, needed: set[str]) -> bool:
    """Whether a room of folders is needed completely; a room of single files may also contain a pipeline and its lock."""
    return needed == _room(room) and any((ROOT / name).is_dir() for name in needed)


@cache  # a closure asks some two thousand times for a few hundred names
def _files(module: str) -> tuple[Path, ...]:
    """A module's file and the `__init__.py` of its packages; nothing if the module is not first-party."""
    names = module.split(".")
    if names[0] not in PACKAGES:
        return ()
    packages = (Path(*names[:depth], "__init__.py") for depth in range(1, len(names) + 1))
    return tuple(path for path in (*packages, Path(*names).with_suffix(".py")) if (ROOT / path).is_file())


class _Facts(NamedTuple):
    """Facts about a first-party file.

    Attributes:
        names: modules that it imports (`from a import b` gives a and a.b, one of them a module).
        beside: data files that it names.
        prose: whether it holds only a docstring, as a folder's `__init__.py` does.
    """

    names: tuple[str, ...]
    beside: tuple[Path, ...]
    prose: bool


@cache  # parsing a stage's closure takes most of the time until its identity is known
def _facts(path: Path) -> _Facts:
    names: list[str] = []
    beside = []
    tree = ast.parse((ROOT / path).read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and DATA.fullmatch(node.value):
            beside += [path.with_name(node.value)] if (ROOT / path).with_name(node.value).is_file() else []
    return _Facts(
        tuple(names), tuple(beside), len(tree.body) == 1 and ast.get_docstring(tree, clean=False) is not None
    )


def code_deps(stage: dict[str, Any]) -> list[str]:
    """The code part of a stage's deps in dvc.yaml: the import closures of its command's modules."""
    words = stage["cmd"].split()
    module = words[words.index("-m") + 1]
    if module != ARM and not module.startswith("stages."):
        return []  # it writes settings, whose use is declared by the stages that read them
    if module != ARM:
        name = module.removeprefix("stages.")
        return named(result_files(name), WHOLE.get(name, ()))
    paths = {path for word in words if word in STAGES for path in result_files(word)}
    return sorted({folder_of(path) if path.parts[0] in APART else path.parts[0] for path in paths})


def manifests_of(mqvae: Mapping[str, Any], deps: Sequence[Any]) -> list[str]:
    """The manifests of the sets in `mqvae.sources`, but for those that are a dependency as a whole.

    Args:
        mqvae: the section, as JSON values.
        deps: of the stage that trains on them.
    """
    folders = [one.get("shards") for one in mqvae.get("sources") or []]
    return [f"{str(folder).rstrip('/')}/manifest.json" for folder in folders if folder and folder not in deps]


def is_manifest(dependency: Any) -> bool:
    """Whether an entry of a stage's deps is the manifest of a set that a setting names."""
    return isinstance(dependency, str) and dependency.endswith("/manifest.json")


def is_code(dependency: Any) -> bool:
    """Whether an entry of a stage's deps is first-party code (no input is inside a package)."""
    return isinstance(dependency, str) and dependency.split("/")[0] in PACKAGES


def rewrite(tree: dict[str, Any], mqvae: Mapping[str, Any] = NO_SETTINGS) -> list[str]:
    """Write each stage's code into its deps, after its inputs, and the manifests of sets that are trained on.

    Args:
        tree: a dvc.yaml as read; changed in place.
        mqvae: the section that may name sets.

    Returns:
        Names of the stages whose deps changed.
    """
    changed = []
    for name, stage in tree["stages"].items():
        deps, code = stage.setdefault("deps", []), code_deps(stage)
        sets = name == "train_mqvae" and mqvae is not NO_SETTINGS  # other manifests are a user's own
        code = (manifests_of(mqvae, deps) if sets else []) + code
        ours = [is_code(dep) or (sets and is_manifest(dep)) for dep in deps]
        if [dep for dep, one in zip(deps, ours, strict=True) if one] != code:
            # in place, so that the other entries keep their comments
            for index in reversed(range(len(deps))):
                if ours[index]:
                    del deps[index]
            deps.extend(code)
            changed.append(name)
    return changed


def rewritten(text: str, mqvae: Mapping[str, Any] = NO_SETTINGS) -> tuple[str, list[str]]:
    """A dvc.yaml's text with the deps of `rewrite` and all else unchanged, and the stages that changed."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 160
    yaml.indent(mapping=2, sequence=4, offset=2)
    tree = yaml.load(text)
    changed = rewrite(tree, mqvae)
    if not changed:
        return text, []
    out = io.StringIO()
    yaml.dump(tree, out)
    # ruamel leaves a space where it breaks a line
    return re.sub(r" +$", "", out.getvalue(), flags=re.MULTILINE), changed


def main() -> None:
    """The command line."""
    parser = parser_of("workspace.code", "Code dependencies in dvc.yaml.")
    parser.add_argument("--write", action="store_true", help="rewrite them in dvc.yaml")
    write = parser.parse_args().write
    with mistakes_in_one_line():
        _look(write)


def _look(write: bool) -> None:
    """Compare, or rewrite; UserError for a params file that cannot be read."""
    mqvae = read_tree(ROOT / "params.yaml").get("mqvae") or {}
    for name in PIPELINES:
        own = mqvae if name == PIPELINES[0] else NO_SETTINGS
        text, changed = rewritten((ROOT / name).read_text(encoding="utf-8"), own)
        if changed and not write:
            raise UserError(
                f"{name}: the deps of {', '.join(changed)} are not its imports and sets: run `make deps`"
            )
        if changed:
            (ROOT / name).write_text(text, encoding="utf-8")
            say(f"{name}: rewrote the deps of {', '.join(changed)}")


if __name__ == "__main__":
    main()
