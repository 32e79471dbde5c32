"""The workflow of dvc.yaml as a Prefect flow: a task for each stage, fresh ones shown as cached.

    python -m pipelines.reproduce                       everything that is out of date
    python -m pipelines.reproduce sample evaluate       these stages and what they need
    python -m pipelines.reproduce -S sample.guidance=3  with another setting in params.yaml
    python -m pipelines.reproduce --force               every stage again

dvc.yaml stays the only DAG: the flow asks DVC of each stage, when its turn comes, whether it is stale, and runs it as
`dvc repro --single-item`: so what an upstream stage made again to the same bytes runs nothing after it.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import networkx
from dvc.repo import Repo
from prefect import flow, get_run_logger, task
from prefect.client.schemas import State
from prefect.states import Completed

BIN = Path(sys.executable).parent
STOP_SECONDS = 10.0
UNRUN = ("is cached - skipping run", "didn't change, skipping")
"""What DVC says of a stage whose outputs it took from its cache, or left as they were."""


@dataclass(frozen=True)
class Step:
    """A stage of the DAG.

    Attributes:
        address: what DVC calls it ("train_mqvae", "demo/dvc.yaml:draw_shapes").
        name: its own name.
        needs: addresses of the stages that it depends on directly.
    """

    address: str
    name: str
    needs: tuple[str, ...]


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
        return [
            Step(
                stage.addressing,
                stage.name,
                tuple(needed.addressing for needed in graph.successors(stage)),
            )
            for stage in order
        ]


def is_stale(step: Step) -> bool:
    """Whether DVC says that a stage is out of date, what it needs aside."""
    with Repo(".") as repo:
        return step.address in repo.status([step.address])


@task
def run_stage(step: Step, force: bool) -> State[str]:
    """Run one stage through DVC, with its output in this task's log.

    Raises:
        RuntimeError: it failed.
    """
    log = get_run_logger()
    if not force and not is_stale(step):
        return Completed(name="Cached", message=f"{step.name} is up to date")
    command = ["dvc", "repro", "--single-item", *(["--force"] if force else []), step.address]
    log.info("%s", " ".join(command))
    ran = True
    process = subprocess.Popen(
        [str(BIN / command[0]), *command[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
    )
    try:
        assert process.stdout is not None
        for line in filter(str.strip, process.stdout):
            log.info("%s", line.rstrip())
            ran = ran and not any(words in line for words in UNRUN)
        status = process.wait()
    finally:
        if process.poll() != 0:
            stop_group(process)
    if status:
        again = f"`dvc repro {step.address}` goes on from where it was"
        raise RuntimeError(f"{step.name} ended with status {status}; {again}")
    if not ran:
        return Completed(name="Cached", message=f"{step.name} was in DVC's cache")
    return Completed(message=f"{step.name} ran")


def stop_group(process: "subprocess.Popen[str]") -> None:
    """End what still runs of a process and of everything that it started: politely, then by force."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@flow(name="reproduce")
def reproduce(targets: list[str], force: bool = False) -> dict[str, str]:
    """Bring the targets (empty: everything) up to date; returns what became of each stage: ran or cached."""
    states: dict[str, State[str]] = {}
    told = {}
    for step in read_dag(targets):
        named = run_stage.with_options(name=step.name, task_run_name=step.name)
        before = [states[address] for address in step.needs]
        states[step.address] = state = named(step, force, return_state=True, wait_for=before)
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
