"""Which first-party files decide a stage's result: its import closure, less what cannot change a result.

A file that lies beside a module and that the module names in a string (a page's template) counts as imported by it.

python -m workspace.code           check that dvc.yaml names them
python -m workspace.code --write   rewrite the code part of each stage's deps in dvc.yaml (`make deps`)
"""

import argparse
import ast
import io
import re
import sys
from collections.abc import Callable, Iterator
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
    "experiments/figure6/dvc.yaml",
    "experiments/real/dvc.yaml",
    "experiments/longer/dvc.yaml",
    "experiments/text/dvc.yaml",
)
ARMS = "experiments/"
"""Pipelines of matrices: a hundred stages of sixty files each would cost every DVC command a second, so they name packages."""
ARM = "experiments.arm"
"""The module that runs stages one after the other: their names stand in its command."""
DATA = re.compile(r"[\w.-]+\.\w+")
"""What a string looks like that may name a file beside its module."""

EXCLUDED = ("cluster/", "workflow/", "workspace/", "training/curves.py", "training/mirror.py")
"""What cannot change a result: where work runs, how a stage is started and its params file is checked as a whole, the
workspace's mechanics, logging, copies of checkpoints."""

DECIDING = ("workspace/manifest.py", "workspace/seeds.py")
"""What can, though it lies there."""

EXCLUDED_IN_TRAINING = ("reporting/",)
"""And in the training stages what draws pictures of a run on its way."""


def excluded(path: Path, stage: str) -> bool:
    """Whether a file of a stage's import closure cannot change its result."""
    if path.as_posix() in DECIDING:
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
    """The files that decide what a stage writes, relative to the root."""
    return closure(f"stages.{stage}", lambda path: excluded(path, stage))


def _files(module: str) -> Iterator[Path]:
    """The file of a module, and the `__init__.py` of its packages; nothing for a name that is no module of ours."""
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
    names = [word for word in words if word in STAGES] if module == ARM else [module.removeprefix("stages.")]
    return sorted({path.as_posix() for name in names for path in result_files(name)})


def packages_of(files: list[str]) -> list[str]:
    """Their packages; of workspace/, which is left out but for its manifests, the file itself."""
    return sorted({file if file.startswith("workspace/") else file.split("/")[0] for file in files})


def is_code(dependency: Any) -> bool:
    """Whether an entry of a stage's deps is a first-party file (no input lies in a package)."""
    return isinstance(dependency, str) and dependency.split("/")[0] in PACKAGES


def rewrite(tree: dict[str, Any], whole: bool = False) -> list[str]:
    """Put the code that each stage needs in its deps, after its inputs.

    Args:
        tree: a dvc.yaml as it was read; changed in place.
        whole: name the packages that hold the files in place of each file.

    Returns:
        Names of the stages whose deps were others.
    """
    changed = []
    for name, stage in tree["stages"].items():
        deps, code = stage.setdefault("deps", []), code_deps(stage)
        code = packages_of(code) if whole else code
        if [dep for dep in deps if is_code(dep)] != code:
            for index in reversed(range(len(deps))):  # in place: the other entries keep their comments
                if is_code(deps[index]):
                    del deps[index]
            deps.extend(code)
            changed.append(name)
    return changed


def rewritten(text: str, whole: bool = False) -> tuple[str, list[str]]:
    """The text of a dvc.yaml with its code deps rewritten, all else as it is, and the stages that this changed."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 1_000_000  # no line is broken
    yaml.indent(mapping=2, sequence=4, offset=2)
    tree = yaml.load(text)
    changed = rewrite(tree, whole)
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
        text, changed = rewritten((ROOT / name).read_text(encoding="utf-8"), name.startswith(ARMS))
        if changed and not write:
            sys.exit(f"{name}: the deps of {', '.join(changed)} are not its imports: run `make deps`")
        if changed:
            (ROOT / name).write_text(text, encoding="utf-8")
            say(f"{name}: rewrote the deps of {', '.join(changed)}")


if __name__ == "__main__":
    main()
