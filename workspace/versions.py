"""Versions of the packages that a result may depend on, and where they are recorded."""

from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version

OF_RUNS = ("torch", "numpy", "webdataset", "ray", "dvc", "prefect", "clean-fid")
"""Recorded in each stage's metrics/STAGE/run.json."""
OF_SCORES = ("clean-fid", "numpy", "pillow", "scipy", "torch")
"""Recorded with each score, because the numbers depend on them."""
OF_SPEED = ("torch", "numpy", "pillow")
"""Recorded in benchmark results."""
OF_NODES = ("torch", "numpy", "ray", "safetensors", "pillow", "webdataset")
"""Must be equal on all nodes of a cluster, besides Python."""


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Package → version, for the installed ones."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = _version(package)
    return found


@cache  # a look reads a file of metadata, and a run asks three times for seven packages
def _version(package: str) -> str:
    return version(package)
