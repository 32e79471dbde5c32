"""Single flipped bytes in any file of any artifact: the next stage must notice, or make the same bytes as before.

`python -m tests.hostile.flips` tries 500 and writes docs/results/flips.json; no DVC is asked, whose own hashes would see.
"""

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.hostile.artifacts import NEXT, read_by_next
from tests.hostile.results import write_results
from tests.hostile.table import World, flipped, make_world
from workspace.progress import say

MADE = {"shard": "shards", "tokenize": "tokens", "evaluate": "evaluation", "report": "report", "train_stackformer": "stackformer", "sample": "samples"}  # fmt: skip


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def tried(world: World, number: int, seed: int) -> tuple[str, str]:
    """Flip number `number`: its artifact, and noticed, harmless or MISSED.

    Artifacts come in turn; the byte is drawn evenly over all bytes of half of the artifact's files at a time, so that small
    files are tried as well as large ones.
    """
    generator = random.Random(seed * 1_000_003 + number)
    names = [*NEXT, "evaluation", "report"]
    name = names[number % len(names)]
    path = generator.choice(
        sorted(path for path in world.artifact(name).rglob("*") if path.is_file() and path.stat().st_size)
    )
    data = path.read_bytes()
    place, mask = generator.randrange(len(data)), 1 << generator.randrange(8)
    made = world.artifact(MADE.get(NEXT.get(name, ""), ""))
    before = bytes_of(made) if name in NEXT else {}
    with world.damaged(path, flipped(data, place, mask)):
        told = read_by_next(world, name)
        if told.startswith("refused: "):
            return name, "noticed"
        same = name in NEXT and bytes_of(made) == before
    return name, "harmless" if same else f"MISSED {path.relative_to(world.root)} byte {place} mask {mask}"


def sweep(world: World, first: int, count: int, seed: int) -> Counter[tuple[str, str]]:
    """Some flips: how many of each artifact came to what."""
    return Counter(tried(world, number, seed) for number in range(first, first + count))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.flips", description=__doc__)
    parser.add_argument("--flips", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="flips-"))
    try:
        world, found = make_world(place / "world"), Counter[tuple[str, str]]()
        for first in range(0, asked.flips, 50):
            found += sweep(world, first, min(50, asked.flips - first), asked.seed)
            say(f"{sum(found.values())}/{asked.flips} {dict(Counter(what for _, what in found.elements()))}")
    finally:
        shutil.rmtree(place)
    whats = Counter(what.split()[0] for _, what in found.elements())
    by_artifact = {
        name: {what: count for (of, what), count in sorted(found.items()) if of == name}
        for name, _ in sorted(found)
    }
    told = {
        "flips": asked.flips,
        "noticed": whats["noticed"],
        "harmless": whats["harmless"],
        "missed": whats["MISSED"],
    }
    write_results(
        "flips.json",
        told | {"seed": asked.seed, "by_artifact": by_artifact},
        "make hostile",
    )
    if whats["MISSED"]:
        sys.exit(f"{whats['MISSED']} of {asked.flips} flipped bytes were not noticed")


if __name__ == "__main__":
    main()
