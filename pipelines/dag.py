"""The DAG of dvc.yaml as DVC reads it: its stages in a valid order, and which of them are stale."""

import re
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.rwlock import RWLockFileCorruptedError

from pipelines.errors import RefusedError

MODULE = re.compile(r"-m\s+(?:stages\.|experiments\.arm\s+)(\w+)")
_one_at_a_time = threading.Lock()
"""A lock, because DVC's Python interface is not thread-safe."""


@dataclass(frozen=True)
class Step:
    """A stage in the DAG.

    Attributes:
        address: its name for DVC ("train_mqvae", "demo/dvc.yaml:draw_shapes").
        name: its own name.
        needs: addresses of the stages that it depends on directly.
        stale: whether it or a stage that it needs is out of date for DVC, so that it may have to run.
        outs: paths that it writes.
        uncached: the outputs that DVC's cache does not hold.
        sections: sections of params.yaml that it reads.
        module: the module that its command runs ("train_mqvae"), which is its name in .runs/.
    """

    address: str
    name: str
    needs: tuple[str, ...]
    stale: bool
    outs: tuple[Path, ...]
    uncached: frozenset[Path]
    sections: frozenset[str]
    module: str


def read_dag(root: Path, targets: Sequence[str] = (), among: Collection[str] | None = None) -> list[Step]:
    """The stages that the targets need (all stages of dvc.yaml without targets), with a single query to DVC.

    Args:
        root: the workspace.
        targets: names of stages of the root's dvc.yaml.
        among: addresses of the stages to check; the others are known to be fresh. None checks all.

    Raises:
        RefusedError: dvc.yaml has no such stage, or DVC cannot determine the stages' state.
    """

    def choose(stages: list[Any]) -> list[Any]:
        own = {stage.name: stage for stage in stages if stage.path_in_repo == "dvc.yaml"}
        unknown = sorted(set(targets) - set(own))
        if unknown:
            raise RefusedError(
                f"dvc.yaml has no stage {', '.join(unknown)}; expected some of {', '.join(sorted(own))}"
            )
        return [stage for name, stage in own.items() if not targets or name in targets]

    return _read(root, choose, among)


def read_experiments(root: Path, tables: Sequence[str]) -> list[Step]:
    """The stages of `experiments/TABLE/dvc.yaml` for the named tables (all, if none are named), and what they need.

    Raises:
        RefusedError: there is no such table, or DVC cannot determine the stages' state.
    """
    known = sorted(path.parent.name for path in root.glob("experiments/*/dvc.yaml"))
    unknown = sorted(set(tables) - set(known))
    if unknown or not known:
        there = f"expected some of {', '.join(known)}" if known else "there are no experiments/*/dvc.yaml yet"
        raise RefusedError(f"experiments/ has no table {', '.join(unknown) or 'at all'}; {there}")
    paths = {f"experiments/{name}/dvc.yaml" for name in (tables or known)}
    return _read(root, lambda stages: [stage for stage in stages if stage.path_in_repo in paths], None)


def _read(root: Path, choose: Callable[[list[Any]], list[Any]], among: Collection[str] | None) -> list[Step]:
    with _one_at_a_time:
        try:
            with Repo(str(root)) as repo:
                graph = repo.index.graph
                roots = choose(list(graph))
                wanted = set(roots).union(*(networkx.descendants(graph, stage) for stage in roots))
                order = [stage for stage in networkx.dfs_postorder_nodes(graph) if stage in wanted]
                require_inputs(root, order, list(graph))
                asked = [stage.addressing for stage in order if among is None or _address(stage) in among]
                stale = set(repo.status(asked)) if asked else set()
                return _steps(root, graph, order, stale)
        except DvcException as error:
            torn = isinstance(error, RWLockFileCorruptedError)
            hint = "; `python -m workspace.dvc_lock` removes it" if torn else ""
            raise RefusedError(f"DVC in {root}: {' '.join(str(error).split())}{hint}") from error


def require_inputs(root: Path, order: Sequence[Any], stages: Sequence[Any]) -> None:
    """Check that what these stages read is there or made: DVC looks only after it has removed a stage's outputs.

    Args:
        root: the workspace.
        order: the stages that may run.
        stages: all stages, whose outputs may still be made.

    Raises:
        RefusedError: something is missing; nothing has been removed.
    """
    made = [Path(out.fs_path) for stage in stages for out in stage.outs]
    for stage in order:
        for path in (Path(dependency.fs_path) for dependency in stage.deps):
            one_of = (path.is_relative_to(out) or out.is_relative_to(path) for out in made)
            if not path.exists() and not any(one_of):
                shown = path.relative_to(root.resolve()) if path.is_relative_to(root.resolve()) else path
                raise RefusedError(
                    f"{_address(stage)} reads {shown}, which does not exist: correct the path in params.yaml, or bring what it "
                    "names; nothing was removed"
                )


def _steps(root: Path, graph: Any, order: Sequence[Any], stale: set[str]) -> list[Step]:
    """The stages as steps; `stale` holds those out of date by themselves, and their descendants count as stale too."""
    steps: dict[str, Step] = {}
    for stage in order:
        needs = tuple(_address(needed) for needed in graph.successors(stage))
        found = MODULE.search(str(stage.cmd))
        params = [name for dependency in stage.deps for name in getattr(dependency, "params", ())]
        address = _address(stage)
        steps[address] = Step(
            address=address,
            name=stage.name or address,
            needs=needs,
            stale=stage.addressing in stale or any(steps[needed].stale for needed in needs),
            outs=tuple(_inside(root, out) for out in stage.outs),
            uncached=frozenset(_inside(root, out) for out in stage.outs if not out.use_cache),
            sections=frozenset(str(name).split(".")[0] for name in params),
            module=found.group(1) if found else stage.name or "",
        )
    return list(steps.values())


def _address(stage: Any) -> str:
    """A stage's name for DVC at its workspace's root (`stage.addressing` is relative to the working directory)."""
    path = str(stage.path_in_repo)
    if not stage.name:
        return path
    return str(stage.name) if path == "dvc.yaml" else f"{path}:{stage.name}"


def _inside(root: Path, out: Any) -> Path:
    """An output's path, relative to the workspace."""
    return Path(out.fs_path).relative_to(root.resolve())
