"""Everything that a GPU must show, in one run with a time limit: what the machine can do, whether results are right on it,
how fast training and sampling are, the paper's Tables 6 and 7 on photographs, and pictures of models that were trained in the
time that is left.

Writes at most eight files into --out: machine.json, correctness.json, speed.json, science.json, showcase.json, run.json,
pictures.zip, log.txt; each as soon as there is something to write. A phase that fails, crashes or hangs does not stop the others.
Needs Python ≥ 3.11, torch and what docs/gpu.md lists; no network, no Ray, no DVC.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.gpu.bundle import bundle
from benchmarks.gpu.notes import keep_json, tell
from benchmarks.gpu.watching import Kit, Phase
from workspace.commands import parser_of

ROOT = Path(__file__).resolve().parents[2]
UNTIL = {"machine": 0.035, "correctness": 0.155, "speed": 0.36, "science": 0.74, "showcase": 1.0}
"""Phases in order, with the share of the time by which each must be over."""
TINY_UNTIL = {"machine": 0.15, "correctness": 0.4, "speed": 0.55, "science": 0.85, "showcase": 1.0}
WARM = 3
"""Models that are compiled from phase b on for phase c."""
ENDING_SECONDS = 6.0
"""Kept for bundling."""
ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCHINDUCTOR_FX_GRAPH_CACHE": "1",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = parser_of("benchmarks.gpu", __doc__)
    made.add_argument("--minutes", type=float, default=12.0, help="time limit of the whole run (12)")
    made.add_argument(
        "--out", type=Path, help="folder of the results (a new one below the system's temporary folder)"
    )
    made.add_argument("--work", type=Path, help="folder for everything else (a new temporary one)")
    made.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="where to compute (cuda)")
    made.add_argument("--tiny", action="store_true", help="all phases at sizes that take a minute on a CPU")
    made.add_argument(
        "--shards",
        type=Path,
        help="folder with image shards NAME-SIZE (faces-64, …); without it shapes are drawn",
    )
    made.add_argument("--weights", type=Path, help="folder with SqueezeNet's weights and LPIPS heads")
    made.add_argument("--only", nargs="+", choices=list(UNTIL), help="run only these phases")
    made.add_argument("--items", nargs="+", metavar="ITEM", help="run only these items of those phases")
    made.add_argument(
        "--fail", choices=list(UNTIL), help="let this phase's first item fail on purpose (a rehearsal)"
    )
    return made


def phases(arguments: argparse.Namespace, out: Path) -> list[Phase]:
    """Run the requested phases; unused time of one goes to the others."""
    until = TINY_UNTIL if arguments.tiny else UNTIL
    chosen = [name for name in until if name in (arguments.only or until)]
    options = ["--device", arguments.device, "--tiny"] if arguments.tiny else ["--device", arguments.device]
    for name in ("shards", "weights"):
        if (path := getattr(arguments, name)) is not None:
            options += [f"--{name}", str(path.resolve())]
    program = [sys.executable, "-m", "benchmarks.gpu.phase"]
    found = []
    for name in chosen:
        command = [
            *program,
            name,
            "--out",
            str(out),
            *options,
            *(["--items", *arguments.items] if arguments.items else []),
            *(["--fail"] if arguments.fail == name else []),
        ]
        warm = name == "correctness" and arguments.device == "cuda" and "speed" in chosen
        beside = [[*program, f"warm-{number}", *options] for number in range(WARM)] if warm else []
        warming = name == "correctness" and "speed" in chosen  # an MQ-VAE takes a minute or two to compile
        found.append(Phase(name, until[name] / until[chosen[-1]], command, beside, not warming))
    return found


def main() -> int:
    """Run the kit; 0 unless nothing at all could be run."""
    arguments = parser().parse_args()
    began, seconds = time.time(), 60 * arguments.minutes - ENDING_SECONDS
    if seconds < ENDING_SECONDS:
        sys.exit(f"--minutes is {arguments.minutes:g}, expected at least {2 * ENDING_SECONDS / 60:g}")
    out = (arguments.out or Path(tempfile.mkdtemp(prefix="gpu-results-"))).resolve()
    work = (arguments.work or Path(tempfile.mkdtemp(prefix="gpu-work-"))).resolve()
    for folder in (out, work, work / "pictures"):
        folder.mkdir(parents=True, exist_ok=True)
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"), "TRITON_CACHE_DIR": str(work / "triton")}
    environment = os.environ | ENVIRONMENT | cache | {"PYTHONPATH": paths}
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("stopped"))  # phases end with it, see Kit
    kit = Kit(out, work, began, seconds, environment)
    told = kit.run(phases(arguments, out))
    keep_json(
        out / "run.json",
        {"minutes": arguments.minutes, "device": arguments.device, "tiny": arguments.tiny, "phases": told},
    )
    bundle(work / "pictures", out)
    tell(f"{time.time() - began:.0f} s; results in {out}")
    return 0 if any(phase["items"] > len(phase["failed"]) for phase in told) else 1


if __name__ == "__main__":
    sys.exit(main())
