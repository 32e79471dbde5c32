"""A store is down for a while as MQ-VAE is trained from it: `python -m tests.chaos.store`, a minute → docs/results/store.json.

A set of the smallest size is put into an S3-compatible store on loopback and trained from; the store is stopped when the first
tar was fetched, and started again. The published weights must be those of the training from the disk.
"""

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread

from shards.attach import attach
from shards.push import pushed
from tests.hostile.table import World, make_world
from tests.stores import S3, away, environment_of
from workspace.stores import cache as caches
from workspace.stores import opening

RESULT = Path("docs/results/store.json")
DOWN = 20.0
"""Seconds for which the store is down."""


def trained_through(world: World, store: S3, seconds: float) -> dict[str, object]:
    """Train from the store, which goes away after the first tar; what came of it."""
    far = attach(pushed(world.artifact("shards"), store.bucket("chaos")), world.root / "far").folder
    fetch, fetched, down = caches.fetch, list[float](), list[Thread]()

    def first_fetch_stops(url: str, target: Path, size: int) -> None:
        fetch(url, target, size)
        fetched.append(time.monotonic())
        if len(fetched) == 1:
            down.append(away(store, seconds))

    caches.fetch = first_fetch_stops
    began = time.monotonic()
    told = world.run(
        "train_mqvae", "--shards", "far", "--out", "out/mqvae", "--set", "compute.loader_workers=0"
    )
    took = time.monotonic() - began
    caches.fetch = fetch
    down[0].join()
    same = all(
        (world.root / "out" / "mqvae" / name).read_bytes() == (world.artifact("mqvae") / name).read_bytes()
        for name in ("model.safetensors", "config.json", "manifest.json")
    )
    assert far.is_dir()
    longest = max(late - early for early, late in zip(fetched, fetched[1:], strict=False))
    return {
        "told": told,
        "store down, seconds": seconds,
        "longest wait for a tar, seconds": round(longest, 1),
        "whole run, seconds": round(took, 1),
        "tars fetched": len(fetched),
        "same bytes as from the disk": same,
    }


def main() -> None:
    """The command line."""
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.store", description=__doc__)
    parser.add_argument(
        "seconds",
        type=float,
        nargs="?",
        default=DOWN,
        help=f"for which the store is down; {DOWN:g} unless given",
    )
    seconds = parser.parse_args().seconds
    if not 0 < seconds < opening.PATIENCE:
        parser.error(
            f"seconds is {seconds:g}; expected 0 < seconds < {opening.PATIENCE:g}, for which a store is asked again"
        )
    folder, result = Path(tempfile.mkdtemp(prefix="store-")), RESULT.absolute()
    store = S3()
    store.start()
    os.environ |= environment_of(store)
    try:
        found = trained_through(make_world(folder / "world"), store, seconds)
    finally:
        store.stop()
        shutil.rmtree(folder, ignore_errors=True)
    result.write_text(f"{json.dumps(found, indent=2)}\n", encoding="utf-8")
    sys.exit(0 if found["same bytes as from the disk"] and found["told"] == "done" else 1)


if __name__ == "__main__":
    main()
