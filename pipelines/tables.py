"""The paper's tables under experiments/ as a Prefect flow: each is a dvc.yaml of its own, its arms are tasks.

python -m pipelines.tables            every experiments/*/dvc.yaml
python -m pipelines.tables table6     this one
"""

import argparse
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.states import Failed

from pipelines.dag import RefusedError, read_experiments
from pipelines.reproduce import bring_up_to_date, run_from_shell
from pipelines.running import RUNNING
from pipelines.server import workspace_slot


@flow(name="tables")
def tables(names: list[str] = [], force: bool = False) -> Any:  # noqa: B006
    """Bring the paper's tables up to date, one task an arm's stage.

    Args:
        names: folders below experiments/, `table6` for example; none means all of them.
        force: run stages that are up to date too; what they finished before is dropped.

    Returns:
        What became of each stage: ran or cached.
    """
    root = Path()
    try:
        with workspace_slot(root), RUNNING.all_ended():
            return bring_up_to_date("tables", read_experiments(root, names), root, force)
    except RefusedError as error:
        return Failed(message=str(error), data=error)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="folders below experiments/; none means all")
    parser.add_argument(
        "-f",
        "--force",
        action="store_true",
        help="run stages that are up to date too (what they finished is dropped)",
    )
    arguments = parser.parse_args()
    run_from_shell(lambda: tables(arguments.names, arguments.force))


if __name__ == "__main__":
    main()
