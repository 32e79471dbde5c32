"""Makes all tars, by processes of this machine, and gathers what they say into an artifact, one tar at a time.

A tar's side file says all of each of its images. Of these, memory holds a mark and a key per image (12 bytes), while the index
is written; the rest is read from the side files where it is needed.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.images import SKIPPED, SPLITS
from shards.layouts.listed import SourceImage
from shards.making.duplicates import packed
from shards.making.indexing import IndexWriter, records_of
from shards.making.pictures import Encoding
from shards.making.plans import ShardPlan
from shards.making.reuse import MOST_SIDE_BYTES, earlier_sides
from shards.making.writing import Facts, write_facts, write_lines
from workspace.errors import UserError
from workspace.exact.manifest import read_json
from workspace.exact.tar import START, load_writer
from workspace.progress import Progress

TOP_REASONS = 5
TRIES = 3
"""How often processes may die before the stage ends."""


@dataclass(frozen=True)
class Written:
    """All tars, made.

    Attributes:
        plans: of the tars.
        made: the facts of each.
        work: folder of the tars and their side files.
        summary: one line about skipped files, "" if there are none.
    """

    plans: Sequence[ShardPlan]
    made: Sequence[Facts]
    work: Path
    summary: str = ""

    def of(self, split: str) -> list[tuple[ShardPlan, Facts]]:
        """The tars of a split."""
        return [(plan, one) for plan, one in zip(self.plans, self.made, strict=True) if plan.split == split]

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Split → samples in each tar."""
        return {split: tuple(one["samples"] for _, one in self.of(split)) for split in SPLITS}

    @property
    def reused(self) -> int:
        """Number of pictures taken from earlier runs."""
        return sum(one["reused"] for one in self.made)

    def counts(self, what: str) -> Counter[str]:
        """How often each of the `reasons` or `notes` came, over all tars."""
        return sum((Counter(one[what]) for one in self.made), Counter[str]())

    def told(self, plan: ShardPlan) -> dict[str, Any]:
        """A tar's side file."""
        found: dict[str, Any] = read_json(plan.side(self.work), MOST_SIDE_BYTES)
        return found

    def skipped(self) -> Iterator[dict[str, str]]:
        """The rows of skipped.jsonl, in the order of the tars."""
        for plan, one in zip(self.plans, self.made, strict=True):
            if one["reasons"]:
                yield from self.told(plan)["skipped"]


@dataclass(frozen=True)
class Kept:
    """The samples of a split, after its index was written.

    Attributes:
        plans: of its tars.
        keys: uint32 [count], a sample's place in the plans.
        marks: uint64 [count], each sample's source mark, `packed`.
    """

    plans: Sequence[ShardPlan]
    keys: NDArray[np.uint32]
    marks: NDArray[np.uint64]

    def image(self, number: int) -> SourceImage:
        """The source of a sample."""
        key = int(self.keys[number])
        size = len(self.plans[0].images)
        plan = self.plans[key // size]
        return plan.images[key - plan.first]


def write_shards(
    plans: Sequence[ShardPlan],
    encoding: Encoding,
    work: Path,
    max_bad_fraction: float,
    processes: int,
    file: Path,
    earlier: Sequence[Path] = (),
) -> Written:
    """Write all shards in parallel; finished ones are not written again.

    Args:
        plans: the tars.
        encoding: how pictures are stored.
        work: the run's folder.
        max_bad_fraction: share of images that may be skipped.
        processes: number of encoding processes.
        file: the stream for the progress bar.
        earlier: folders `work` of earlier runs; pictures are reused if their sources have not changed.

    Raises:
        UserError: as `judged` does, or processes died three times.
    """
    made = list[Facts]()
    done = skipped = 0
    sides = earlier_sides([plan.images for plan in plans], earlier, encoding)
    with Progress("shards", sum(len(plan.images) for plan in plans), "images", file) as progress:
        facts = _in_processes(plans, encoding, work, processes, sides)
        for plan, one in zip(plans, facts, strict=True):
            made.append(one)
            done, skipped = done + len(plan.images), skipped + sum(one["reasons"].values())
            progress.update(done, skipped=skipped)
    return judged(plans, made, work, max_bad_fraction)


def _in_processes(
    plans: Sequence[ShardPlan],
    encoding: Encoding,
    work: Path,
    processes: int,
    sides: Sequence[Sequence[Path]],
) -> Iterator[Facts]:
    """The facts of each plan, in order. After a process died, unfinished tars are begun again, three times in all."""
    if processes == 1:
        yield from map(write_facts, plans, repeat(encoding), repeat(work), sides)
        return
    load_writer()
    done = 0
    for _ in range(TRIES):
        try:
            with ProcessPoolExecutor(processes, mp_context=get_context(START)) as pool:
                left = (plans[done:], repeat(encoding), repeat(work), sides[done:])
                for one in pool.map(write_facts, *left):
                    yield one
                    done += 1
            return
        except BrokenProcessPool:
            continue
    begun = [plan for plan in plans if not plan.side(work).is_file()][:processes]
    names = " or ".join(f"{plan.split}/{plan.number:06d}.tar" for plan in begun)
    raise UserError(
        f"shards: a process died {TRIES} times, while it wrote {names}: its memory or a library that decodes pictures; "
        "finished shards are kept"
    )


def judged(plans: Sequence[ShardPlan], made: Sequence[Facts], work: Path, max_bad_fraction: float) -> Written:
    """All tars, if not too many images were skipped; the rows of skipped ones are kept in `work`.

    Raises:
        UserError: more than the share `max_bad_fraction` of the images was skipped, or a split lost all of its images.
    """
    written = Written(plans, made, work)
    reasons, total = written.counts("reasons"), sum(len(plan.images) for plan in plans)
    if not reasons:
        return written
    write_lines(work / SKIPPED, written.skipped())
    text = _summary(reasons, total)
    if reasons.total() > max_bad_fraction * total:
        raise UserError(
            f"{text}; see {work / SKIPPED}. More than shard.max_bad_fraction = {max_bad_fraction}: fix the files, or raise it"
        )
    for split, sizes in written.sizes.items():
        if not sum(sizes):
            raise UserError(f"every image of the split {split} was skipped; {text}; see {work / SKIPPED}")
    return Written(plans, made, work, text)


def _summary(reasons: Mapping[str, int], total: int) -> str:
    """A line about skipped images."""
    top = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    told = ", ".join(f"{count:,} {name}" for name, count in top[:TOP_REASONS])
    told += f" and {len(top) - TOP_REASONS} other reasons" if top[TOP_REASONS:] else ""
    skipped = sum(reasons.values())
    return f"skipped {skipped:,} of {total:,} images ({skipped / total:.1%}): {told}"


def write_index(folder: Path, split: str, written: Written) -> Kept:
    """Write the index of a split, a tar at a time.

    Args:
        folder: of the artifact.
        split: train or val.
        written: all tars.
    """
    tars = written.of(split)
    count = sum(one["samples"] for _, one in tars)
    extensions = sorted({name for _, one in tars for name in one["extensions"]})
    kept = Kept([plan for plan, _ in tars], np.empty(count, np.uint32), np.empty(count, np.uint64))
    start = 0
    with IndexWriter(folder, split, extensions, count, len(tars)) as index:
        for plan, one in tars:
            told = written.told(plan)
            records, names = records_of(told["rows"], extensions)
            index.add(records, names)
            here = slice(start, start := start + one["samples"])
            kept.keys[here] = records["key"]
            kept.marks[here] = packed([mark for _, mark, _ in told["sources"]])
    return kept


def classes_of(tars: Iterable[tuple[ShardPlan, Facts]]) -> set[int]:
    """The classes of the samples in some tars."""
    return {cls for _, one in tars for cls in one["classes"]}
