"""What a run leaves in the dashboard: its stages, its numbers against the last run's, its pictures, a link to its report."""

import base64
import hashlib
import html
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from pipelines.dag import Step
from pipelines.home import HOME, PICTURES, others
from pipelines.numbers import Row, rows
from pipelines.params import differences
from pipelines.progress import key
from pipelines.server import report_url
from pipelines.site import SHOWN

MOST_PICTURES = 12
MOST_DIFFERENCES = 60


def escaped(text: object) -> str:
    """Text that Markdown shows as it is: no HTML, no link, no table cell ends in it."""
    safe = html.escape(" ".join(str(text).split()))
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", safe)


def show_results(title: str, outcomes: Mapping[str, str], steps: Sequence[Step], root: Path) -> None:
    """Make the artifacts of a run.

    Args:
        title: the flow's name; it begins their keys.
        outcomes: what became of each stage, by name.
        steps: the stages.
        root: the workspace.
    """
    numbers = rows(steps, root)
    if numbers:
        create_table_artifact([_cells(row) for row in numbers], key=key(title, "numbers"), description=NOTE)
    for picture in pictures(steps, root):
        url, name = address(root, picture), picture.as_posix()
        create_image_artifact(url, key=key(title, *picture.with_suffix("").parts[-2:]), description=name)
    create_markdown_artifact(
        summary(title, outcomes, steps, numbers, root),
        key=key(title, "summary"),
        description=f"{title}: summary",
    )


NOTE = "Every number of metrics/, and what it was after the last run that got to its end"


def _cells(row: Row) -> dict[str, str]:
    now, before = (f"{value:.5g}" if value is not None else "–" for value in (row.now, row.before))
    names = {"stage": html.escape(row.stage), "number": html.escape(row.name)}
    return {**names, "now": now, "last run": before, "difference": row.difference}


def pictures(steps: Sequence[Step], root: Path) -> list[Path]:
    """The PNG files at the top of the stages' outputs: reconstructions, the grid of samples."""
    found = [path for step in steps for out in step.outs for path in sorted((root / out).glob("*.png"))]
    return [path.relative_to(root) for path in found[:MOST_PICTURES]]


def address(root: Path, picture: Path) -> str:
    """Where a picture is to be seen: a copy that the next run does not change, or a data URL in somebody else's Prefect."""
    data = (root / picture).read_bytes()
    if others() or not (root / HOME).is_dir():
        return f"data:image/png;base64,{base64.b64encode(data).decode()}"
    name = f"{hashlib.sha256(data).hexdigest()[:12]}-{picture.name}"
    (root / PICTURES).mkdir(exist_ok=True)
    if not (root / PICTURES / name).is_file():
        beside = root / PICTURES / f".{name}"
        shutil.copyfile(root / picture, beside)
        beside.replace(root / PICTURES / name)
    return SHOWN + name


def summary(
    title: str, outcomes: Mapping[str, str], steps: Sequence[Step], numbers: Sequence[Row], root: Path
) -> str:
    """The Markdown of a run: stages, where its report and its logs are, and which numbers moved."""
    lines = [f"# {escaped(title)}", "", "| stage | |", "|---|---|"]
    lines += [f"| {escaped(name)} | {escaped(what)} |" for name, what in outcomes.items()]
    lines += ["", *_report(steps, root)]
    lines += [*settings(root), ""]
    lines += [f"Whole output: `{root.resolve() / '.runs' / 'logs' / str(flow_run.get_name() or 'run')}`", ""]
    moved = [row for row in numbers if row.difference not in ("", "=")]
    if moved:
        lines += ["Numbers that moved since the last run:", "", "| | last run | now | |", "|---|---|---|---|"]
    lines += [
        f"| {escaped(row.stage)}: {escaped(row.name)} | {row.before:.5g} | {row.now:.5g} | {escaped(row.difference)} |"
        for row in moved
    ]
    return "\n".join(lines) + "\n"


def settings(root: Path) -> list[str]:
    """Markdown: the settings with which this ran that are not those of the last commit's params.yaml."""
    found = differences(root)
    if not found:
        return [
            "Settings: as in the last commit."
            if found is not None
            else "Settings: params.yaml is not committed."
        ]
    lines = [
        "Settings that differ from the last commit's:",
        "",
        "| | committed | in this run |",
        "|---|---|---|",
    ]
    lines += [
        f"| {escaped(key)} | {escaped(before)} | {escaped(now)} |"
        for key, before, now in found[:MOST_DIFFERENCES]
    ]
    left_out = len(found) - MOST_DIFFERENCES
    return [*lines, *([f"… and {left_out} more: `git diff params.yaml`"] if left_out > 0 else [])]


def _report(steps: Sequence[Step], root: Path) -> list[str]:
    """The link to the report page: served by the dashboard where it runs; its path in any case."""
    pages = [
        out / "index.html" for step in steps for out in step.outs if (root / out / "index.html").is_file()
    ]
    lines = []
    for page in pages:
        url = report_url(root, page)
        lines += [f"[The report]({url})" if url else f"The report: `{root.resolve() / page}`", ""]
    return lines
