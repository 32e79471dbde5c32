"""report: pictures, curves and every number with its protocol, on one HTML page.

Reads   image shards, reconstructions, samples, their evaluation, MQ-VAE, Stackformer, metrics, dvc.yaml
Writes  index.html, a self-contained page
Params  report
"""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from reporting.page import Manifests, ReportFacts, Sources, read_report
from reporting.web.rendering import PARTS, render
from settings.report import ReportSettings
from workflow.running import run_stage
from workflow.stage import Stage
from workspace.exact.manifest import atomic_path, write_manifest
from workspace.progress import say
from workspace.runs import RunFolder
from workspace.settings import Compute


def sources(settings: ReportSettings) -> Sequence[Path]:
    """The page's template, style and script, which affect the result but are not Python imports."""
    return PARTS


def run(settings: ReportSettings, compute: Compute, inputs: Sources, folder: RunFolder) -> None:
    """Gather the inputs, render the page, and write it."""
    report = read_report(inputs, settings.title, settings.samples, settings.examples, settings.draw_megabytes)
    page = render(report)
    with atomic_path(folder.out / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    manifests = Manifests.read(inputs)
    made_from = {field.name: getattr(manifests, field.name).fingerprint for field in fields(manifests)}
    facts = ReportFacts(len(report.samples), len(report.examples))
    write_manifest(folder.out, "report", asdict(facts), made_from)
    say(f"the report has {len(page.encode()):,} bytes: open index.html")


STAGE = Stage("report", __doc__, ReportSettings, Sources, run, sources)

if __name__ == "__main__":
    run_stage("report")
