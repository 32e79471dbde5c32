"""A sweep as a Prefect flow: a grid or a list of settings, with its arms side by side in separate workspaces.

    python -m pipelines.sweep --grid stackformer.model.width=64,96,128 --grid stackformer.steps=500,1000
    python -m pipelines.sweep --arm "stackformer.steps=500" --arm "mqvae.model.mask_ratio=0.75 stackformer.steps=900"

Common results are made once: stages that no arm's settings affect run here first, and if several arms share a stage's
dependencies, one arm runs it and the others take its outputs from DVC's cache. Arms that change only Stackformer thus share the
token set. A failing arm does not stop the others and is named at the end. Starting the same sweep again continues it. To keep an
arm, put its settings into params.yaml; `dvc repro` then takes everything from the cache.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from pipelines import home

    home.use(Path())  # before importing Prefect, which reads its settings on import

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from pipelines import numbers, params
from pipelines.arms import SWEEPS, Arm, arms_of, bring_inputs, needed_here, prepare, remember, touched
from pipelines.dag import Step, read_dag
from pipelines.errors import RefusedError
from pipelines.obeying import obeyed
from pipelines.progress import key
from pipelines.reproduce import bring_up_to_date, run_from_shell, what
from pipelines.running import RUNNING, StoppedError, environment, run_stage
from pipelines.server import report_url, workspace_slot
from pipelines.showing import escaped, settings

MOST_AT_ONCE = 64


@dataclass
class Plan:
    """Shared state of a sweep's arms.

    Attributes:
        root: the workspace.
        targets: stages that each arm runs.
        steps: the stages that the targets need.
        slots: number of arms that may run at a time.
        locks: a stage's address and the settings that affect it → a lock, so that only one arm runs a shared stage.
    """

    root: Path
    targets: list[str]
    steps: list[Step]
    slots: threading.Semaphore
    locks: "defaultdict[tuple[str, tuple[str, ...]], threading.Lock]" = field(
        default_factory=lambda: defaultdict(threading.Lock)
    )


@flow(name="sweep", task_runner=ThreadPoolTaskRunner(max_workers=MOST_AT_ONCE))
def sweep(
    grid: list[str] = [],  # noqa: B006
    arms: list[str] = [],  # noqa: B006
    common: list[str] = [],  # noqa: B006
    targets: list[str] = [],  # noqa: B006
    at_once: int = 0,
) -> Any:
    """Run a grid or a list of settings, with arms side by side; shared results are made once.

    Args:
        grid: axes, `section.key=value,value`; every combination of values is an arm.
        arms: the settings of one arm each, `section.key=value` separated by blanks; combined with every point of the grid.
        common: settings of every arm, for example `compute.workers=0`.
        targets: stages that each arm runs, with what they need; none means everything.
        at_once: number of arms that run side by side; 0 uses as many as the cores allow.

    Returns:
        Each arm's outcome.
    """
    root = Path()
    try:
        made = arms_of(grid, arms, common)
        for arm in made:
            params.with_changes(root, arm.changes)  # refuses an unknown setting before any work
        with RUNNING.all_ended(), obeyed():
            with workspace_slot(root):
                steps = read_dag(root, targets)
                told = bring_up_to_date("sweep-shared", needed_here(steps, made), root)
                if not isinstance(told, dict):
                    return told
                folders = [prepare(arm, root) for arm in made]
            at_once = at_once or cores_allow(root, common)
            get_run_logger().info("%d arms, %d at a time", len(made), min(at_once, len(made)))
            plan = Plan(root, targets, steps, threading.Semaphore(at_once))
            states = side_by_side(made, folders, plan)
        return conclude(made, folders, states, plan)
    except RefusedError as error:
        return Failed(message=str(error), data=error)


def cores_allow(root: Path, common: Sequence[str]) -> int:
    """Number of arms for the machine's cores: cores ÷ (workers · threads) of the compute section, at least one."""
    from ruamel.yaml import YAML

    compute = dict(YAML(typ="safe").load(root / "params.yaml").get("compute", {}))
    for name, value in map(params.split, common):
        if name.startswith("compute."):
            compute[name.removeprefix("compute.")] = params.parse(value)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(1, max(1, compute.get("workers", 1)) * (compute.get("threads", 1) or cores)))


def side_by_side(arms: Sequence[Arm], folders: Sequence[Path], plan: Plan) -> list[State[Any]]:
    """Run the arms in order, as many at a time as the plan has slots; returns their states."""
    futures = [
        run_arm.with_options(name=arm.name, task_run_name=arm.name).submit(arm, folder, plan)
        for arm, folder in zip(arms, folders, strict=True)
    ]
    for future in futures:
        future.wait()
    return [future.state for future in futures]


@task(cache_policy=NO_CACHE)
def run_arm(arm: Arm, folder: Path, plan: Plan) -> State[Any]:
    """Bring one arm's workspace up to date; ends as Failed, with the stage's name, if a stage fails."""
    with plan.slots:
        if RUNNING.ended:
            raise StoppedError("the run is being stopped")
        decided = touched(plan.steps, arm)
        bring_inputs(plan.steps, decided, plan.root, folder)
        own = {address for address, settings in decided.items() if settings}
        became = {}
        for step in read_dag(folder, plan.targets, own):
            if step.address in own:
                state = _run_step(arm, step, folder, plan.locks[step.address, decided[step.address]])
                became[step.name] = what(state)
                if not state.is_completed():
                    return Failed(message=state.message, data=RuntimeError(state.message))
        ran = ", ".join(name for name, how in became.items() if how == "ran")
        return Completed(message=f"ran {ran or 'nothing'}", data=became)


def _run_step(arm: Arm, step: Step, folder: Path, lock: threading.Lock) -> State[Any]:
    """Run one stage of an arm; waits if another arm is running the same stage with the same settings."""
    with lock:
        named = run_stage.with_options(name=step.name, task_run_name=f"{step.name} ({arm.name})")
        state: State[Any] = named(step, False, folder, return_state=True)
        if what(state) == "ran":
            remember(step, folder)
        return state


def conclude(arms: Sequence[Arm], folders: Sequence[Path], states: Sequence[State[Any]], plan: Plan) -> Any:
    """Write tables of all arms to the dashboard and .runs/sweep/results.json, and name the failed arms."""
    steps, root = plan.steps, plan.root
    results = [
        {"arm": arm.name, "settings": list(arm.changes), "state": state.name, "workspace": folder.name}
        | {"numbers": _numbers(steps, folder) if state.is_completed() else {}}
        for arm, folder, state in zip(arms, folders, states, strict=True)
    ]
    (root / SWEEPS / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    cells = [
        {"arm": escaped(result["arm"]), "state": str(result["state"])}
        | {name: f"{value:.5g}" for name, value in result["numbers"].items()}
        for result in results
    ]
    create_table_artifact(cells, key=key("sweep", "arms"), description="arms and their numbers")
    text = _summary(arms, folders, states, plan) + _tables(root)
    create_markdown_artifact(text, key=key("sweep", "summary"), description="sweep: summary")
    ended = zip(arms, states, strict=True)
    failed = [f"{arm.name} ({state.message})" for arm, state in ended if not state.is_completed()]
    if failed:
        message = f"{len(failed)} of {len(arms)} arms failed: {'; '.join(failed)}"
        return Failed(message=message, data=RuntimeError(message))
    return {arm.name: "done" for arm in arms}


def _tables(root: Path) -> str:
    """Write the sweep's table as text, Markdown and a page (reporting/sweep.py); returns Markdown with a link to the page."""
    command = [sys.executable, "-m", "reporting.sweep", str(SWEEPS / "results.json"), "--out", str(SWEEPS)]
    env = os.environ | environment(root)
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        get_run_logger().error("no table: %s", done.stderr.strip().rpartition("\n")[2])
        return ""
    url = report_url(root, SWEEPS / "index.html")
    link = (
        f"[The table as a page]({url})\n"
        if url
        else f"The table as a page: `{(root / SWEEPS / 'index.html').resolve()}`\n"
    )
    return "\n".join(["", (root / SWEEPS / "table.md").read_text(encoding="utf-8"), link])


def _numbers(steps: Sequence[Step], folder: Path) -> dict[str, float]:
    """The numbers of an arm's workspace, named `stage/number`."""
    return {
        f"{stage}/{name}": value
        for stage, place in numbers.folders(steps).items()
        for name, value in numbers.read(folder / place / numbers.NUMBERS).items()
    }


def _summary(arms: Sequence[Arm], folders: Sequence[Path], states: Sequence[State[Any]], plan: Plan) -> str:
    """Markdown with one row per arm: settings, outcome and report."""
    lines = ["# Sweep", "", "| arm | | report |", "|---|---|---|"]
    pages = [out / "index.html" for step in plan.steps for out in step.outs]
    for arm, folder, state in zip(arms, folders, states, strict=True):
        page = next((page for page in pages if (folder / page).is_file()), None)
        url = report_url(folder, page) if page is not None else None
        link = f"[report]({url})" if url else "–"
        lines.append(f"| {escaped(arm.name)} | {escaped(state.message or state.name)} | {link} |")
    lines += ["", *settings(plan.root)]
    lines += ["", f"All numbers: `{(plan.root / SWEEPS / 'results.json').resolve()}`"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    several: dict[str, Any] = {"action": "append", "default": []}
    parser.add_argument("targets", nargs="*", help="stages of dvc.yaml that each arm runs; none means all")
    parser.add_argument("--grid", metavar="KEY=VALUE,VALUE", help="an axis of the grid", **several)
    parser.add_argument("--arm", metavar='"KEY=VALUE …"', help="the settings of an arm", **several)
    parser.add_argument(
        "-S", "--set", metavar="KEY=VALUE", help="a setting of every arm (compute.workers=0)", **several
    )
    parser.add_argument(
        "--at-once",
        type=int,
        default=0,
        help="number of arms side by side; 0: as many as the cores allow (0)",
    )
    given = parser.parse_args()
    if not given.grid and not given.arm:
        sys.exit('a sweep needs --grid KEY=VALUE,VALUE or --arm "KEY=VALUE …"')
    table = Path(SWEEPS, "table.txt")
    table.unlink(missing_ok=True)
    try:
        run_from_shell(lambda: sweep(given.grid, given.arm, given.set, given.targets, given.at_once))
    finally:
        if table.is_file():  # of failed arms, too
            sys.stdout.write(
                f"\n{table.read_text(encoding='utf-8')}\nAs a page: {table.with_name('index.html')}\n"
            )


if __name__ == "__main__":
    main()
