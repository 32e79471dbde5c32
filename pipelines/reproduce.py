"""The workflow of dvc.yaml as a Prefect flow: one task per stage, with fresh stages shown as cached.

    python -m pipelines.reproduce                       run everything that is out of date
    python -m pipelines.reproduce sample evaluate       run these stages and what they need
    python -m pipelines.reproduce -S sample.guidance_scale=3  change a setting for this run only
    python -m pipelines.reproduce --force               run every stage again

dvc.yaml remains the only DAG. The flow asks DVC once which stages are stale, and runs these and their descendants in order, one
`dvc repro --single-item` each, with which DVC skips a stage whose inputs were made again with the same bytes.

It uses this project's Prefect, whatever profile or PREFECT_* variables are set; MQVAE_PREFECT=mine uses yours.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from pipelines import home

    home.use(Path())  # before importing Prefect, which reads its settings on import

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
    """Bring stages of dvc.yaml up to date, one task per stage.

    Args:
        targets: stages of dvc.yaml to run with what they need; none means everything.
        overrides: settings for this run only, `section.key=value`, for example `stackformer.steps=2000`; params.yaml is
            restored when it has ended.
        force: also run stages that are up to date; their finished runs are dropped.

    Returns:
        Each stage's outcome: ran or cached.
    """
    root = Path()
    try:
        with RUNNING.all_ended(), obeyed(), workspace_slot(root), overridden(root, overrides):
            steps = read_dag(root, targets)
            return bring_up_to_date("reproduce", steps, root, force)
    except RefusedError as error:
        return Failed(message=str(error), data=error)


def bring_up_to_date(title: str, steps: Sequence[Step], root: Path, force: bool = False) -> Any:
    """Run the stages in order and show the results; returns the outcomes, or a failed state with the failing stage's message."""
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
    """Run the stages in order up to the first failure; returns the outcomes and the failure."""
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
    """A stage's outcome in one word."""
    if not state.is_completed():
        return "failed"
    return "cached" if state.name == "Cached" else "ran"


def parser_of(name: str, description: str | None) -> argparse.ArgumentParser:
    """The command line of a flow that runs stages, with `--force`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m pipelines.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    help = "also run stages that are up to date (their finished runs are dropped)"
    parser.add_argument("-f", "--force", action="store_true", help=help)
    return parser


def main() -> None:
    """The command line."""
    parser = parser_of("reproduce", __doc__)
    parser.add_argument("targets", nargs="*", help="stages of dvc.yaml; none means all")
    parser.add_argument(
        "-S",
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting for this run only",
    )
    arguments = parser.parse_args()
    run_from_shell(lambda: reproduce(arguments.targets, arguments.set, arguments.force))


def run_from_shell(call: Any) -> None:
    """Run a flow, print its stages' outcomes, and exit with one line if it failed."""
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
