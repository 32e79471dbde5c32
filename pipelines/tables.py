"""The paper's tables under experiments/ as a Prefect flow: each has its own dvc.yaml, and its arms are tasks.

python -m pipelines.tables            every experiments/*/dvc.yaml
python -m pipelines.tables table6     this one
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from pipelines import home

    home.use(Path())  # before importing Prefect, which reads its settings on import

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.states import Failed

from pipelines.dag import Step, read_experiments
from pipelines.errors import RefusedError
from pipelines.obeying import obeyed
from pipelines.progress import key
from pipelines.reproduce import bring_up_to_date, parser_of, run_from_shell
from pipelines.running import RUNNING, environment
from pipelines.server import workspace_slot
from pipelines.view import tables_in_view


@flow(name="tables")
def tables(names: list[str] = [], force: bool = False) -> Any:  # noqa: B006
    """Bring the paper's tables up to date, one task per stage of an arm.

    Args:
        names: folders below experiments/, for example `table6`; none means all.
        force: also run stages that are up to date; their finished runs are dropped.

    Returns:
        Each stage's outcome: ran or cached.
    """
    root = Path()
    try:
        with RUNNING.all_ended(), obeyed(), workspace_slot(root), tables_in_view(root):
            steps = read_experiments(root, names)
            told = bring_up_to_date("tables", steps, root, force)
            if isinstance(told, dict):
                render(steps, root)
            return told
    except RefusedError as error:
        return Failed(message=str(error), data=error)


def render(steps: Sequence[Step], root: Path) -> None:
    """Write docs/results/TABLE.md for each table whose folder has a renderer, like `make TABLE`, and show it in the dashboard."""
    runs = {
        step.address.split("/")[1]: step.outs[0] for step in steps if step.address.startswith("experiments/")
    }
    for name, out in runs.items():
        table, made = Path("experiments", name, "params.yaml"), Path("docs", "results", name)
        if not (root / table).is_file():
            continue
        options = ["--table", str(table), "--runs", str(Path(*out.parts[:2])), "--out", str(made)]
        module = "court" if name == "court" else "table"
        command = [sys.executable, "-m", f"experiments.{module}", *options]
        env = os.environ | environment(root)
        done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            get_run_logger().error(
                "%s could not be rendered: %s", name, done.stderr.strip().rpartition("\n")[2]
            )
            continue
        text = (root / made.with_suffix(".md")).read_text(encoding="utf-8")
        create_markdown_artifact(text, key=key("tables", name), description=f"{made}.md")


def main() -> None:
    """The command line."""
    parser = parser_of("tables", __doc__)
    parser.add_argument("names", nargs="*", help="folders below experiments/; none means all")
    arguments = parser.parse_args()
    run_from_shell(lambda: tables(arguments.names, arguments.force))


if __name__ == "__main__":
    main()
