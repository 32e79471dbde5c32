"""Memory of listing a large source, splitting it and planning its tars: `python -m benchmarks.large_listing coco 10000000`.

The list is made in a temporary folder and its images do not exist: `shard` looks at them when it writes the tars. Prints the
bytes of the list, the peak resident memory of a fresh process, and its processor time.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from shards.making.plans import plan_shards
from shards.making.sources import list_source
from shards.making.splits import with_splits
from workspace.commands import parser_of
from workspace.progress import say

WORDS = [
    "a", "photograph", "of", "some", "thing", "on", "the", "table", "beside", "a", "window", "in", "the", "morning", "light",
]  # fmt: skip
LINES = 10_000
"""Lines that are written at a time."""


def caption(number: int) -> str:
    """Some ten words that depend on the number."""
    return " ".join(WORDS[(number * 7 + place * place) % len(WORDS)] for place in range(10))


def coco(count: int) -> Iterator[str]:
    """A COCO captions file, with one caption per image."""
    yield '{"info": {"year": 2017}, "images": [\n'
    for number in range(count):
        name = f"{number * 7919 % count:012d}.jpg"
        yield f'{", " if number else ""}{{"id": {number}, "width": 640, "height": 480, "file_name": "{name}"}}\n'
    yield '], "annotations": [\n'
    for number in range(count):
        row = json.dumps({"id": number, "image_id": number, "caption": caption(number)})
        yield f"{', ' if number else ''}{row}\n"
    yield "]}\n"


def table(count: int) -> Iterator[str]:
    """A CSV of paths, labels of 1,000 classes and captions."""
    yield "path,label,caption\n"
    for number in range(count):
        yield f"part{number % 100:02d}/{number * 7919 % count:012d}.jpg,class {number % 1000},{caption(number)}\n"


def listing(count: int) -> Iterator[str]:
    """A listing as `python -m shards.list` writes it."""
    yield "# root: /data/images\n"
    for number in range(count):
        yield f"part{number // 100_000:02d}/{number:012d}.jpg\t12345\t1700000000000000000\n"


LISTS = {
    "coco": (coco, "annotations/captions_train2017.json", "coco"),
    "table": (table, "table.csv", "metadata"),
    "listing": (listing, "images.listing", "folder"),
}
"""Name → what writes it, to which file, and the kind of the source."""


def write(name: str, count: int, folder: Path) -> Path:
    """The list, in a folder; returns its path."""
    lines, file, _ = LISTS[name]
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = lines(count)
    with path.open("w", encoding="utf-8") as out:
        while some := list(islice(waiting, LINES)):
            out.writelines(some)
    if name == "table":  # the first image, by which the folder of the others is found
        (folder / "part00").mkdir()
        (folder / "part00" / f"{0:012d}.jpg").write_bytes(b"")
    return path


def plan(kind: str, source: str) -> None:
    """Lists, splits and plans, as `shard` does before it writes; prints MiB, seconds and images."""
    began = time.process_time()
    found = with_splits(list_source(kind, source), 0.01, 0)  # type: ignore[arg-type]
    plans = plan_shards(found.images, 0.01, 0, 5000)
    images = sum(len(one.images) for one in plans)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    sys.stdout.write(
        f"{images:,} images in {len(plans):,} tars: {peak:,} MiB, {time.process_time() - began:.0f} s\n"
    )


def main() -> None:
    """The command line."""
    parser = parser_of("benchmarks.large_listing", __doc__)
    parser.add_argument("name", choices=[*LISTS, "plan"])
    parser.add_argument(
        "arguments", nargs="+", help="the number of images; after `plan`, the kind and the source"
    )
    parser.add_argument("--in", dest="place", type=Path, help="folder for the list during the run")
    given = parser.parse_args()
    if given.name == "plan":
        plan(*given.arguments)
        return
    with tempfile.TemporaryDirectory(dir=given.place) as folder:
        path = write(given.name, int(given.arguments[0]), Path(folder))
        say(f"{path.name}: {path.stat().st_size:,} bytes")
        source = folder if given.name == "coco" else str(path)
        again = [sys.executable, "-m", "benchmarks.large_listing", "plan", LISTS[given.name][2], source]
        subprocess.run(again, check=True)


if __name__ == "__main__":
    main()
