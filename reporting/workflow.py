"""The workflow as a graph: the stages of a dvc.yaml, their dependencies, and the layout of the drawing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from workspace.code import is_code
from workspace.errors import UserError

COLUMN, ROW, BOX_WIDTH, BOX_HEIGHT, EDGE = 158.0, 70.0, 136.0, 50.0, 8.0


@dataclass(frozen=True)
class Stage:
    """A stage in dvc.yaml: its description, inputs (without code) and outputs."""

    name: str
    about: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class Box:
    """A stage's box in the drawing: its upper left corner."""

    stage: Stage
    x: float
    y: float


@dataclass(frozen=True)
class Drawing:
    """The graph in layers from left to right: boxes of BOX_WIDTH × BOX_HEIGHT, and arrows as SVG paths."""

    boxes: list[Box]
    arrows: list[str]
    width: float
    height: float


def read_stages(path: Path) -> list[Stage]:
    """The stages of a dvc.yaml, in its order.

    Raises:
        UserError: it is missing, or not a dvc.yaml.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; expected the workflow's dvc.yaml")
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(tree, dict) or not isinstance(tree.get("stages"), dict):
        raise UserError(f"{path} holds no stages; expected the workflow's dvc.yaml")
    return [_stage(name, entry) for name, entry in tree["stages"].items()]


def _stage(name: str, entry: Mapping[str, Any]) -> Stage:
    # paths with these endings are weights files, which the user provides
    reads = [
        path for path in _paths(entry.get("deps")) if not is_code(path) and not path.endswith("${empty}")
    ]
    writes = [path for kind in ("outs", "metrics", "plots") for path in _paths(entry.get(kind))]
    return Stage(name, str(entry.get("desc", "")), tuple(reads), tuple(dict.fromkeys(writes)))


def _paths(entries: Any) -> list[str]:
    """Paths of a list of outs or deps: each is a string or a mapping from the path to its options."""
    return [str(next(iter(entry))) if isinstance(entry, dict) else str(entry) for entry in entries or ()]


def edges(stages: Sequence[Stage]) -> list[tuple[int, int]]:
    """Pairs (maker, reader) of stage indices, without those implied by others."""
    direct = {
        (i, j)
        for i, maker in enumerate(stages)
        for j, reader in enumerate(stages)
        if i != j and any(_within(read, write) for read in reader.reads for write in maker.writes)
    }
    after = {i: {j for a, j in direct if a == i} for i in range(len(stages))}
    return sorted((i, j) for i, j in direct if not any(_reaches(k, j, after) for k in after[i] - {j}))


def _within(read: str, write: str) -> bool:
    """Whether two paths are equal, or one is below the other."""
    a, b = Path(read), Path(write)
    return a == b or b in a.parents or a in b.parents


def _reaches(start: int, goal: int, after: Mapping[int, set[int]]) -> bool:
    seen, waiting = set[int](), [start]
    while waiting:
        node = waiting.pop()
        if node == goal:
            return True
        if node not in seen:
            seen.add(node)
            waiting += after[node]
    return False


def draw(stages: Sequence[Stage]) -> Drawing:
    """Lay out the graph: columns by longest path, with the longest chain in the middle."""
    pairs = edges(stages)
    layers = _layers(len(stages), pairs)
    lanes = _lanes(layers, pairs)
    top = min(lanes, default=0)
    boxes = [
        Box(stage, EDGE + layer * COLUMN, EDGE + (lane - top) * ROW)
        for stage, layer, lane in zip(stages, layers, lanes, strict=True)
    ]
    width = 2 * EDGE + max(layers, default=0) * COLUMN + BOX_WIDTH
    height = 2 * EDGE + (max(lanes, default=0) - top) * ROW + BOX_HEIGHT
    return Drawing(boxes, [_arrow(boxes[i], boxes[j]) for i, j in pairs], width, height)


def _layers(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Length of the longest path to each node."""
    layers = [0] * count
    for _ in range(count):
        for i, j in pairs:
            layers[j] = max(layers[j], layers[i] + 1)
    return layers


def _lanes(layers: Sequence[int], pairs: Sequence[tuple[int, int]]) -> list[int]:
    """A row per node: chains, longest first, take the free row nearest to the middle.

    A long arrow runs along its maker's row, so a chain also takes that row up to where its last arrow ends.
    """
    lanes: dict[int, int] = {}
    taken: set[tuple[int, int]] = set()
    while len(lanes) < len(layers):
        chain = _longest_chain([i for i in range(len(layers)) if i not in lanes], layers, pairs)
        ends = [layers[j] for i, j in pairs if i in chain]
        room = range(layers[chain[0]], max([layers[chain[-1]] + 1, *ends]))
        lane = next(row for row in (0, -1, 1, -2, 2, *range(3, 99)) if not {(row, at) for at in room} & taken)
        taken |= {(lane, at) for at in room}
        lanes |= dict.fromkeys(chain, lane)
    return [lanes[i] for i in range(len(layers))]


def _longest_chain(free: Sequence[int], layers: Sequence[int], pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The longest chain of free nodes; a node with arrows beyond the next column ends it, because these use its row."""
    best: dict[int, list[int]] = {}
    for node in sorted(free, key=lambda i: -layers[i]):
        readers = [j for i, j in pairs if i == node]
        far = any(layers[j] > layers[node] + 1 for j in readers)
        tails = [] if far else [best[j] for j in readers if j in best]
        best[node] = [node, *max(tails, key=len, default=[])]
    return max(best.values(), key=len)


def _arrow(maker: Box, reader: Box) -> str:
    """An arrow from the right side of one box to the left side of another: horizontal up to the last gap, then a bend."""
    x, y = maker.x + BOX_WIDTH, maker.y + BOX_HEIGHT / 2
    end, down = reader.x - 3, reader.y + BOX_HEIGHT / 2
    bend = max(x, end - (COLUMN - BOX_WIDTH))
    middle = (bend + end) / 2
    return f"M{x:g} {y:g}H{bend:g}C{middle:g} {y:g} {middle:g} {down:g} {end:g} {down:g}"
