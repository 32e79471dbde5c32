"""Row 16: two workers over a slow network, gradients summed behind the backward pass against one flat sum after it.

Each worker is in a network namespace of its own. A pair of virtual interfaces, limited by `tc` (a token bucket), joins them
in both directions. It needs root, `ip` and `tc`. Both ways train in turn, in the same processes, to the same bits. Beside it: the
processor time of a step of the demo's two models, on one machine.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import ROOT, Claim, Pairs, Result, at_least, main, measured, not_measured
from benchmarks.workers_made import WORKERS

NETWORKS = (("1gbit", "1 Gb/s", 16, 14), ("250mbit", "250 Mb/s", 60, 8))
"""Rate for `tc`, its name, images per worker, steps. With these a backward pass on one core takes about as long as the
network needs for the gradients. What TCP costs the same core is hidden by nothing, and weighs more in the shorter step."""
SPACES = tuple(f"row16-{rank}" for rank in range(WORKERS))
ENDS = tuple(f"row16v{rank}" for rank in range(WORKERS))
SKIPPED = 2
"""First steps that are not counted: buckets and moments are allocated in them."""


def measure() -> Iterable[Result]:
    """The limited network, then the demo's models."""
    yield from (limited(*each) for each in NETWORKS)
    yield from (processor_time(model) for model in ("demo_mqvae", "demo_stackformer"))


def limited(rate: str, name: str, images: int, steps: int) -> Result:
    """A step's time of a Stackformer of 28 M weights over a network of this rate."""
    claim = Claim(
        row=16,
        name=f"workers_{rate}",
        title=f"a Stackformer's training step, two workers over {name}",
        unit="s",
        better="lower",
        against="one flat all-reduce after the backward pass",
        bar=at_least(round(1 / 0.7, 3)),
    )
    shapes = {
        "weights": "28 M",
        "images": images * WORKERS,
        "workers": WORKERS,
        "network": f"{name}, tc tbf",
        "threads": 1,
    }
    if os.geteuid() or not (shutil.which("ip") and shutil.which("tc")):
        return not_measured(claim, "needs root, ip and tc", shapes)
    with network(rate):
        figures = trained(f"large_stackformer_{images}", steps, SPACES)
    return measured(claim, pairs_of(figures, 0), shapes, note_of(figures))


def processor_time(model: str) -> Result:
    """CPU seconds of worker 0's process, all threads, per step."""
    claim = Claim(
        row=16,
        name=f"workers_{model}",
        title=f"processor time of a step, {model.replace('_', ' of ')}, two workers".replace(
            "demo of", "demo's"
        ),
        unit="s of processor time",
        better="lower",
        against="one flat all-reduce after the backward pass",
        bar=at_least(0.97),
    )
    figures = trained(model, 120, ())
    return measured(claim, pairs_of(figures, 1), {"workers": WORKERS, "threads": 1}, note_of(figures))


def pairs_of(figures: dict[str, list[list[float]]], column: int) -> Pairs:
    """Steps of both ways, in turn: 0 is the time, 1 the processor time."""
    ours, theirs = (tuple(row[column] for row in figures[way][SKIPPED:]) for way in ("overlapped", "flat"))
    return Pairs(ours, theirs)


def note_of(figures: dict[str, list[list[float]]]) -> str:
    """Whether both ways learned the same."""
    same = [row[2] for row in figures["overlapped"]] == [row[2] for row in figures["flat"]]
    assert same and figures["equal"], "both ways must give the same losses and weights"
    return "losses of all steps and weights at the end are equal to the bit; other programs used the processor too"


def trained(model: str, steps: int, spaces: Sequence[str]) -> dict[str, list[list[float]]]:
    """Worker 0's figures per way, one row per step; each worker in its own namespace, if namespaces are given."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "benchmarks.workers_made"]
        members = []
        for rank in range(WORKERS):
            before = ["ip", "netns", "exec", spaces[rank]] if spaces else []
            around = os.environ | ({"GLOO_SOCKET_IFNAME": ENDS[rank]} if spaces else {})
            given = [*before, *command, str(rank), str(steps), model, str(out)]
            members.append(subprocess.Popen(given, cwd=ROOT, env=around, stderr=subprocess.DEVNULL))
        codes = [member.wait() for member in members]
        assert codes == [0] * WORKERS, f"workers ended with {codes}"
        found: dict[str, list[list[float]]] = json.loads(out.read_text(encoding="utf-8"))
    return found


@contextmanager
def network(rate: str) -> Iterator[None]:
    """Two namespaces, joined by interfaces of limited rate; removed at the end."""
    _tear_down()
    try:
        for space in SPACES:
            _run("ip", "netns", "add", space)
        one, other = zip(SPACES, ENDS, strict=True)
        _run(
            "ip",
            "link",
            "add",
            one[1],
            "netns",
            one[0],
            "type",
            "veth",
            "peer",
            "name",
            other[1],
            "netns",
            other[0],
        )
        for rank, (space, end) in enumerate((one, other)):
            _run("ip", "-n", space, "address", "add", f"10.16.0.{rank + 1}/24", "dev", end)
            for device in (end, "lo"):
                _run("ip", "-n", space, "link", "set", device, "up")
            limit = ("rate", rate, "burst", "256kb", "latency", "50ms")
            _run("ip", "netns", "exec", space, "tc", "qdisc", "add", "dev", end, "root", "tbf", *limit)
        yield
    finally:
        _tear_down()


def _run(*words: str) -> None:
    subprocess.run(words, check=True)


def _tear_down() -> None:
    for space in SPACES:
        subprocess.run(["ip", "netns", "delete", space], check=False, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main(measure)
