"""Image shards for every test, and a few real pictures where they are at hand."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from shards.images import ImageShards
from tests.committed import ROOT
from tests.shards.making import labelled_images, make_shards
from tests.shards.random_tokens import USUAL, Written, write

DATA = ROOT.parent / "shared" / "data"


@pytest.fixture
def labelled(tmp_path: Path) -> ImageShards:
    """Sixteen images of 8 × 8 in tars of three."""
    return make_shards(labelled_images(tmp_path / "raw", 16), tmp_path / "shards")


@pytest.fixture
def real(tmp_path: Path) -> Callable[[str, int], Path]:
    """Links to a few real pictures: `real("flowers", 4)` is a folder with four of each of its folders."""

    def link(name: str, count: int) -> Path:
        source = DATA / name
        if not source.is_dir():
            pytest.skip(f"../shared/data/{name} is not on this machine")
        target = tmp_path / name
        target.mkdir()
        for folder in [source, *sorted(path for path in source.iterdir() if path.is_dir())]:
            for path in islice(sorted(folder.glob("*.jpg")), count):
                linked = target / path.relative_to(source)
                linked.parent.mkdir(exist_ok=True)
                linked.symlink_to(path)
        return target

    return link


@pytest.fixture
def usual(tmp_path: Path) -> Written:
    """A data set with classes and captions, L no multiple of 8."""
    return write(tmp_path / "tokens", USUAL)
