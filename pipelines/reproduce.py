"""The workflow of dvc.yaml as a Prefect flow: a task for each stage, fresh ones shown as cached.

    python -m pipelines.reproduce                       everything that is out of date
    python -m pipelines.reproduce sample evaluate       these stages and what they need
    python -m pipelines.reproduce -S sample.guidance_scale=3  with another setting, for this run alone
    python -m pipelines.reproduce --force               every stage again

dvc.yaml stays the only DAG: the flow asks DVC once what is stale, and runs each stale stage and all that descends from it
alone, in order, as `dvc repro --single-item`: DVC leaves alone a stage whose inputs were made again to the same bytes.

It uses this project's Prefect, whatever profile or PREFECT_* variables there are; MQVAE_PREFECT=mine takes yours.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from pipelines import home

    home.use(Path())  # before Prefect is imported, which reads its settings then

from prefect import flow
from prefect.client.schemas import State
from prefect.exceptions import Abort
from prefect.states import Failed

from pipelines import numbers
from pipelines.dag import Step, read_dag
from pipelines.errors import RefusedError
from pipelines.obeying import obeyed
from pipelines.overrides import apply_again, overridden
from pipelines.running import RUNNING, run_stage
from pipelines.server import workspace_slot
from pipelines.showing import show_results


@flow(name="reproduce")
def reproduce(targets: list[str] = [], overrides: list[str] = [], force: bool = False) -> Any:  # noqa: B006
    """Bring stages of dvc.yaml up to date, one task a stage.

    Args:
        targets: stages of dvc.yaml, which are run with what they need; none means everything.
        overrides: settings of this run alone, `section.key=value` each, for example `stackformer.steps=2000`; params.yaml is
            as before when it has ended.
        force: run stages that are up to date too; what they finished before is dropped.

    Returns:
        What became of each stage: ran or cached.
    """
    root = Path()
    try:
        with RUNNING.all_ended(), obeyed(), workspace_slot(root), overridden(root, overrides):
            steps = read_dag(root, targets)
            return bring_up_to_date("reproduce", steps, root, force)
    except RefusedError as error:
        return Failed(message=str(error), data=error)


def bring_up_to_date(title: str, steps: Sequence[Step], root: Path, force: bool = False) -> Any:
    """Run the stages in order, show the results; what became of each, or a failed state with the failing stage's message."""
    numbers.keep_before(steps, root)
    told, failed = run_in_order(steps, root, force)
    if failed is not None:
        return Failed(message=failed.message, data=RuntimeError(failed.message))
    show_results(title, told, steps, root)
    numbers.finished(root)
    return told


def run_in_order(
    steps: Sequence[Step], root: Path, force: bool = False
) -> tuple[dict[str, str], State[Any] | None]:
    """Run the stages one after the other, up to the first that fails; what became of each, and the failure."""
    told: dict[str, str] = {}
    states: dict[str, State[Any]] = {}
    for step in steps:
        apply_again(root)
        named = run_stage.with_options(name=step.name, task_run_name=step.name)
        before = [states[address] for address in step.needs if address in states]
        states[step.address] = state = named(step, force, root, return_state=True, wait_for=before)
        told[step.name] = what(state)
        if not state.is_completed():
            return told, state
    return told, None


def what(state: State[Any]) -> str:
    """What became of a stage, in a word."""
    if not state.is_completed():
        return "failed"
    return "cached" if state.name == "Cached" else "ran"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.reproduce",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="*", help="stages of dvc.yaml; none means all")
    parser.add_argument(
        "-f",
        "--force",
        action="store_true",
        help="run stages that are up to date too (what they finished is dropped)",
    )
    parser.add_argument(
        "-S",
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another setting, for this run alone",
    )
    arguments = parser.parse_args()
    run_from_shell(lambda: reproduce(arguments.targets, arguments.set, arguments.force))


def run_from_shell(call: Any) -> None:
    """Run a flow, tell what became of its stages, and exit with a line where it failed."""
    try:
        told = call()
    except (RefusedError, RuntimeError, Abort) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("stopped; the same command continues from the last checkpoint")
    for name, became in told.items():
        sys.stdout.write(f"{became:6}  {name}\n")


if __name__ == "__main__":
    main()
