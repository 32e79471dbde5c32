"""A run's artifacts in the dashboard: its stages, its numbers compared with the last run's, pictures, a link to its report."""

import base64
import hashlib
import html
import json
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
    """Text escaped for Markdown: it cannot contain HTML or links, or end a table cell."""
    safe = html.escape(" ".join(str(text).split()))
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", safe)


def show_results(title: str, outcomes: Mapping[str, str], steps: Sequence[Step], root: Path) -> None:
    """Make the artifacts of a run.

    Args:
        title: the flow's name, the prefix of their keys.
        outcomes: each stage's outcome, by name.
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


NOTE = "Every number in metrics/, and its value after the last complete run"


def _cells(row: Row) -> dict[str, str]:
    now, before = (f"{value:.5g}" if value is not None else "–" for value in (row.now, row.before))
    names = {"stage": html.escape(row.stage), "number": html.escape(row.name)}
    return {**names, "now": now, "last run": before, "difference": row.difference, "remark": row.remark}


def pictures(steps: Sequence[Step], root: Path) -> list[Path]:
    """PNG files directly in the stages' output folders: reconstructions, the grid of samples."""
    found = [path for step in steps for out in step.outs for path in sorted((root / out).glob("*.png"))]
    return [path.relative_to(root) for path in found[:MOST_PICTURES]]


def address(root: Path, picture: Path) -> str:
    """A picture's address: a copy that the next run does not change, or a data URL with the user's own Prefect."""
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
    """A run's summary in Markdown: stages, paths of its report and logs, and changed numbers."""
    lines = [f"# {escaped(title)}", "", "| stage | |", "|---|---|"]
    lines += [f"| {escaped(name)} | {escaped(what)} |" for name, what in outcomes.items()]
    lines += ["", *_report(steps, root)]
    lines += [*settings(root), "", *came_from(root)]
    lines += [f"Whole output: `{root.resolve() / '.runs' / 'logs' / str(flow_run.get_name() or 'run')}`", ""]
    moved = [row for row in numbers if row.difference not in ("", "=")]
    if moved:
        lines += [
            "Numbers that changed since the last run:",
            "",
            "| | last run | now | |",
            "|---|---|---|---|",
        ]
    lines += [
        f"| {escaped(row.stage)}: {escaped(row.name)} | {row.before:.5g} | {row.now:.5g} | {escaped(row.told)} |"
        for row in moved
    ]
    return "\n".join(lines) + "\n"


def came_from(root: Path) -> list[str]:
    """Markdown with the origin that the last stage wrote into its run.json, with the line that makes it again."""
    found = [json.loads(path.read_text("utf-8")).get("origin") for path in root.glob("metrics/*/run.json")]
    known = [origin for origin in found if origin]
    if not known:
        return []
    last = max(known, key=lambda origin: str(origin["date"]))
    more = [f"{name}: {value}" for name, value in last["settings"].items()]
    return [
        f"Revision {escaped(str(last['revision'] or 'none, no Git'))}, {escaped(last['date'])}; preset "
        f"{escaped(last['preset'])}{escaped(', but ' + ', '.join(more)) if more else ''}; data "
        f"{escaped(str(last['data']['source']))}, shards {escaped(str(last['data']['shards'])[:12])}. "
        + (f"Again: `{last['again']}`" if last["again"] else ""),
        "",
    ]


def settings(root: Path) -> list[str]:
    """Markdown with this run's settings that differ from the last commit's params.yaml."""
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
    """The report's link if the dashboard serves it, and its path."""
    pages = [
        out / "index.html" for step in steps for out in step.outs if (root / out / "index.html").is_file()
    ]
    lines = []
    for page in pages:
        url = report_url(root, page)
        lines += [f"[The report]({url})" if url else f"The report: `{root.resolve() / page}`", ""]
    return lines
