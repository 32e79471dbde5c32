"""Cost and savings of flows, for docs/results/sweep.json: six arms of Stackformer on one token set, two at a time against
one after another; and a flow that finds everything cached against `dvc repro` that does.

    python -m benchmarks.sweep [--steps 1500]      `make sweep-time`; some minutes on two cores

Each way gets its own copy of a repository at the scale of presets/tiny in which everything is made, since the
second would find the first's arms in DVC's cache. An arm uses one core. What is timed is `python -m pipelines.sweep` as typed,
its start included, against a Prefect server that is up already.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.tiny import copy_of_the_repository
from workspace.commands import parser_of
from workspace.exact.manifest import read_json, write_json
from workspace.progress import say

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
RESULT = ROOT / "docs" / "results" / "sweep.json"
RATES = ("0.001", "0.0015", "0.002", "0.003", "0.004", "0.006")


def repository(folder: Path) -> Path:
    """The working tree's code at tiny scale, nothing of the user's own, everything made."""
    copy_of_the_repository(folder)
    _run(folder, str(BIN / "dvc"), "repro", "-q")
    return folder


def _run(folder: Path, *command: str, **more: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=_environment(folder) | more, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def _environment(folder: Path) -> dict[str, str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PYTHONPATH": str(folder), "PATH": path, "OMP_NUM_THREADS": "1"}


@contextmanager
def server(home: Path) -> Iterator[str]:
    """A Prefect server of its own on loopback; its API's address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    api = f"http://127.0.0.1:{port}/api"
    process = subprocess.Popen(
        [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        cwd=ROOT,
        env=os.environ | {"PREFECT_HOME": str(home), "PREFECT_API_URL": api},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                urllib.request.urlopen(f"{api}/health", timeout=2).close()
                break
            except OSError:
                if process.poll() is not None:
                    sys.exit(f"Prefect's server ended with status {process.returncode}")
                time.sleep(0.2)
        yield api
    finally:
        process.terminate()
        process.wait()


def timed(folder: Path, api: str, steps: int, at_once: int) -> dict[str, Any]:
    """Sweep six learning rates; seconds of wall time, and how often each stage ran, here and in the arms."""
    grid = f"stackformer.learning_rate={','.join(RATES)}"
    common = ("-S", f"stackformer.steps={steps}", "-S", "compute.workers=0", "-S", "compute.threads=1")
    command = (
        "-m",
        "pipelines.sweep",
        "train_stackformer",
        "--grid",
        grid,
        *common,
        "--at-once",
        str(at_once),
    )
    began = time.monotonic()
    _run(folder, sys.executable, *command, PREFECT_API_URL=api, MQVAE_PREFECT="mine")
    seconds = time.monotonic() - began
    logs = [path for place in (folder, *folder.glob(".runs/sweep/*/")) for path in place.glob(".runs/logs/*/*.log")]  # fmt: skip
    ran = Counter(stage for path in logs for stage in re.findall(r"Running stage '(\w+)'", path.read_text()))
    states = [arm["state"] for arm in read_json(folder / ".runs" / "sweep" / "results.json")]
    return {"seconds": round(seconds, 1), "at_once": at_once, "stages_run": dict(ran), "states": states}


def overhead(folder: Path, api: str, rounds: int = 3) -> dict[str, float]:
    """Seconds of `dvc repro` and of the flow where everything is cached, the quickest of some rounds each."""
    commands = {
        "dvc_repro": (str(BIN / "dvc"), "repro"),
        "flow": (sys.executable, "-m", "pipelines.reproduce"),
    }
    seconds: dict[str, float] = {}
    for _ in range(rounds):
        for name, command in commands.items():
            began = time.monotonic()
            said = _run(folder, *command, PREFECT_API_URL=api, MQVAE_PREFECT="mine")
            assert "Running stage" not in said, said
            seconds[name] = min(seconds.get(name, float("inf")), time.monotonic() - began)
    return {name: round(value, 2) for name, value in seconds.items()} | {
        "overhead": round(seconds["flow"] - seconds["dvc_repro"], 2)
    }


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = parser_of("benchmarks.sweep", __doc__)
    parser.add_argument("--steps", type=int, default=1500, help="steps of Stackformer in each arm (1500)")
    parser.add_argument("--out", type=Path, default=RESULT, help="where the result goes")
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        first = repository(Path(name) / "one-after-another")
        second = Path(name) / "two-at-a-time"
        shutil.copytree(first, second, symlinks=True)
        with server(Path(name) / "prefect") as api:
            cached = overhead(first, api)
            one, two = (timed(folder, api, given.steps, n) for folder, n in ((first, 1), (second, 2)))
    result = {
        "arms": len(RATES),
        "steps": given.steps,
        "cores": os.cpu_count(),
        "load_average_15_minutes": round(os.getloadavg()[2], 1),
        "everything_cached": cached,
        "one_after_another": one,
        "two_at_a_time": two,
        "ratio": round(two["seconds"] / one["seconds"], 3),
    }
    write_json(given.out, result)
    say(f"{cached['overhead']} s a flow costs beyond dvc repro where everything is cached")
    say(f"{one['seconds']} s one after another, {two['seconds']} s two at a time: {result['ratio']}")


if __name__ == "__main__":
    main()
