"""The workflow of dvc.yaml as a Prefect flow: a task for each stage, fresh ones shown as cached.

    python -m pipelines.reproduce                       everything that is out of date
    python -m pipelines.reproduce sample evaluate       these stages and what they need
    python -m pipelines.reproduce -S sample.guidance=3  with another setting in params.yaml
    python -m pipelines.reproduce --force               every stage again

dvc.yaml stays the only DAG: the flow asks DVC once what is stale, then runs each stale stage and what follows from it,
one at a time, as `dvc repro --single-item`.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import networkx
from dvc.repo import Repo
from prefect import flow, get_run_logger, task
from prefect.client.schemas import State
from prefect.states import Completed

DVC = str(Path(sys.executable).with_name("dvc"))
STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Step:
    """A stage of the DAG.

    Attributes:
        address: what DVC calls it ("train_mqvae", "demo/dvc.yaml:draw_shapes").
        name: its own name.
        needs: addresses of the stages that it depends on directly.
        stale: whether DVC says that it is out of date by itself.
    """

    address: str
    name: str
    needs: tuple[str, ...]
    stale: bool


def read_dag(targets: Sequence[str]) -> list[Step]:
    """The stages that the targets need (all that dvc.yaml names, if there are none), in an order in which they can run."""
    with Repo(".") as repo:
        graph = repo.index.graph
        roots = [
            stage
            for stage in graph
            if stage.path_in_repo == "dvc.yaml" and (not targets or stage.name in targets)
        ]
        unknown = sorted(set(targets) - {stage.name for stage in roots})
        if unknown:
            names = sorted(stage.name for stage in graph if stage.path_in_repo == "dvc.yaml")
            raise SystemExit(
                f"dvc.yaml has no stage {', '.join(unknown)}; expected some of {', '.join(names)}"
            )
        wanted = set(roots).union(*(networkx.descendants(graph, stage) for stage in roots))
        order = [stage for stage in networkx.dfs_postorder_nodes(graph) if stage in wanted]
        status = repo.status([stage.addressing for stage in order])
        return [
            Step(
                stage.addressing,
                stage.name,
                tuple(needed.addressing for needed in graph.successors(stage)),
                stage.addressing in status,
            )
            for stage in order
        ]


def to_run(steps: Sequence[Step], force: bool) -> set[str]:
    """Addresses of the steps that must run: stale ones, and all that follows from them."""
    running: set[str] = set()
    for step in steps:
        if force or step.stale or running.intersection(step.needs):
            running.add(step.address)
    return running


@task
def run_stage(step: Step, due: bool, force: bool) -> State[str]:
    """Run one stage through DVC, with its output in this task's log."""
    log = get_run_logger()
    if not due:
        return Completed(name="Cached", message=f"{step.name} is up to date")
    command = [DVC, "repro", "--single-item", *(["--force"] if force else []), step.address]
    log.info("%s", " ".join(["dvc", *command[1:]]))
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip():
                log.info("%s", line.rstrip())
        status = process.wait()
    finally:
        stop_group(process)
    if status:
        raise RuntimeError(
            f"{step.name} ended with status {status}; `dvc repro {step.address}` goes on from where it was"
        )
    return Completed(message=f"{step.name} ran")


def stop_group(process: "subprocess.Popen[str]") -> None:
    """End a process and everything that it started, if it still runs."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@flow(name="reproduce")
def reproduce(targets: list[str], force: bool = False) -> dict[str, str]:
    """Bring the targets (empty: everything) up to date; returns what became of each stage: ran or cached."""
    steps = read_dag(targets)
    due = to_run(steps, force)
    told = {}
    for step in steps:
        named = run_stage.with_options(name=step.name, task_run_name=step.name)
        state = named(step, step.address in due, force, return_state=True)
        state.result()
        told[step.name] = "cached" if state.name == "Cached" else "ran"
    return told


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.reproduce",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="*", help="stages of dvc.yaml; none means all")
    parser.add_argument("-f", "--force", action="store_true", help="run stages that are up to date too")
    parser.add_argument(
        "-S", "--set", action="append", default=[], metavar="KEY=VALUE", help="change params.yaml first"
    )
    arguments = parser.parse_args()
    set_params(arguments.set)
    told = reproduce(arguments.targets, arguments.force)
    for name, what in told.items():
        sys.stdout.write(f"{what:6}  {name}\n")


def set_params(changes: Sequence[str]) -> None:
    """Write settings into params.yaml, comments kept; the stages validate them."""
    if not changes:
        return
    from dvc.utils.serialize import modify_yaml

    with modify_yaml("params.yaml") as tree:
        for change in changes:
            name, equals, value = change.partition("=")
            *parents, last = name.split(".")
            node = tree
            for key in parents:
                node = node.get(key) if isinstance(node, dict) else None
            if not equals or not isinstance(node, dict) or last not in node:
                raise SystemExit(f"-S {change}: expected KEY=VALUE with a key of params.yaml")
            node[last] = parse(value)


def parse(text: str) -> object:
    """A value as YAML reads it."""
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(text)


if __name__ == "__main__":
    main()
