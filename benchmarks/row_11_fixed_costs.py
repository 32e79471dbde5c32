"""Row 11: what costs time though nothing is computed.

--help of a stage beyond importing what it needs; a `dvc repro` with nothing to do; the workflow at the scale of presets/tiny on
two Ray workers less the seconds that the same stages work without Ray: interpreters, imports, DVC, Ray, an empty fit.
"""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.harness import ROOT, Claim, Floor, Pairs, Result, alternate, at_most, main, measured, seconds
from benchmarks.sweep import repository
from workspace.exact.manifest import read_json
from workspace.progress import say

STAGES = ("shard", "train_mqvae", "sample", "report")
BIN = Path(sys.executable).parent
PAIRS = 2


def measure() -> Iterable[Result]:
    """--help, no-op, the workflow."""
    yield from (help_of(stage) for stage in STAGES)
    with tempfile.TemporaryDirectory() as name:
        folder = repository(Path(name))
        run(folder, str(BIN / "dvc"), "repro", "-q")
        yield no_op(folder)
        yield fixed(folder)


def run(folder: Path, *command: str) -> None:
    """A command in a folder, quietly; what it said where it failed."""
    path = f"{BIN}:{os.environ['PATH']}"
    env = os.environ | {"PYTHONPATH": str(folder), "PATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        say(done.stdout + done.stderr)
        raise SystemExit(f"{' '.join(command)} failed")


LISTED = """
import contextlib, io, runpy, sys
from importlib.metadata import packages_distributions
name, known = sys.argv[1], packages_distributions()
sys.argv = [name, "--help"]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    runpy.run_module(name, run_name="__main__", alter_sys=True)
print(*sorted({loaded.partition(".")[0] for loaded in sys.modules} & known.keys()))
"""
"""Says which installed packages a module's --help imports."""


def packages_of(stage: str) -> list[str]:
    """The packages of others that a stage's --help imports."""
    command = [sys.executable, "-c", LISTED, f"stages.{stage}"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split() if not (ROOT / name).is_dir()]


def help_of(stage: str) -> Result:
    """Seconds of processor time beyond importing the packages that it needs, which no code of ours can make quicker.

    Not above `import torch`: a stage whose help needs no torch had less than nothing then.
    """
    claim = Claim(
        row=11,
        name=f"help_{stage}",
        title=f"--help of {stage}, beyond importing its packages",
        unit="s",
        better="lower",
        against="",
        bar=at_most(0.6),
    )
    python, packages = sys.executable, packages_of(stage)
    took = alternate(
        lambda: processor_seconds(lambda: run(ROOT, python, "-m", f"stages.{stage}", "--help")),
        lambda: processor_seconds(lambda: run(ROOT, python, "-c", f"import {', '.join(packages)}")),
        PAIRS,
    )
    beyond = tuple(ours - imports for ours, imports in zip(took.ours, took.reference, strict=True))
    note = f"processor time; --help {min(took.ours):.2f} s, its {len(packages)} packages {min(took.reference):.2f} s, at best"
    return measured(claim, Pairs(beyond, ()), {"stage": stage, "with torch": "torch" in packages}, note)


def processor_seconds(work: Callable[[], object]) -> float:
    """Seconds that the processes which one call starts and waits for keep a processor busy."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def no_op(folder: Path) -> Result:
    """Seconds of `dvc repro` where everything is up to date."""
    claim = Claim(
        row=11,
        name="no_op_repro",
        title="`dvc repro` with nothing to do",
        unit="s",
        better="lower",
        against="",
        bar=at_most(1.5),
    )
    pairs = alternate(lambda: seconds(lambda: run(folder, str(BIN / "dvc"), "repro", "-q")), pairs=PAIRS)
    with tempfile.TemporaryDirectory() as name:
        floor = Floor(one_stage(Path(name)), "the same in a repository of one stage without dependencies")
    note = "the paper's tables under experiments/ are out of DVC's view (docs/decisions/0010-tables-out-of-view.md)"
    return measured(claim, pairs, {"stages": 10}, note, floor)


def one_stage(folder: Path) -> float:
    """Seconds of a `dvc repro` with nothing to do where there is next to nothing."""
    (folder / "dvc.yaml").write_text("stages: {only: {cmd: echo 1 > made, outs: [made]}}", encoding="utf-8")
    for command in (("init", "--no-scm", "-q"), ("repro", "-q")):
        run(folder, str(BIN / "dvc"), *command)
    return min(seconds(lambda: run(folder, str(BIN / "dvc"), "repro", "-q")) for _ in range(PAIRS))


def fixed(folder: Path) -> Result:
    """Seconds of the whole workflow on Ray less the work's own."""
    claim = Claim(
        row=11,
        name="fixed_costs",
        title="`make repro` without the work itself (tiny, 2 Ray workers)",
        unit="s",
        better="lower",
        against="",
        bar=at_most(60.0),
    )
    work = sum(read_json(path)["seconds"] for path in folder.glob("metrics/*/run.json"))
    for name in ("artifacts", ".runs", "metrics", ".dvc/cache", "dvc.lock", "demo/dvc.lock"):
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    params = folder / "params.yaml"
    params.write_text(
        re.sub(r"(\n  workers:) 0", r"\1 2", params.read_text(encoding="utf-8")), encoding="utf-8"
    )
    head = (sys.executable, "-m", "cluster.head")

    def whole() -> None:
        try:
            run(folder, *head, "start", "--params", "params.yaml")
            run(folder, str(BIN / "dvc"), "repro", "-q")
        finally:
            run(folder, *head, "stop")

    took = seconds(whole)
    note = (
        f"{took:.1f} s in all, of which the stages work {work:.1f} s without Ray; one run. Besides the floor: a process "
        "that imports torch for each actor, worker and controller of Ray (one by one in benchmarks/results/ray_overhead.json), "
        "DVC's look at each stage, two workers that wait for each other in steps of milliseconds"
    )
    floor = Floor(
        18.0 + 6.0 + 15.0,
        "10 imports of torch, Ray's start and stop, an empty fit, each measured alone on a quiet machine",
    )
    return measured(claim, Pairs((took - work,), ()), {"stages": 10, "workers": 2}, note, floor)


if __name__ == "__main__":
    main(measure)
