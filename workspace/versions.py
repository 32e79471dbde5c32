"""Versions of the packages that a result may depend on: which are noted where, and how they are read."""

from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

OF_RUNS = ("torch", "numpy", "webdataset", "ray", "dvc", "prefect", "clean-fid")
"""Noted in each stage's metrics/STAGE/run.json."""
OF_SCORES = ("clean-fid", "numpy", "pillow", "scipy", "torch")
"""Noted beside each score: what the numbers depend on."""
OF_SPEED = ("torch", "numpy", "pillow")
"""Noted in benchmarks' results."""
OF_NODES = ("torch", "numpy", "ray", "safetensors")
"""Must be equal on all nodes of a cluster, beside Python."""


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Package → its version; those that are not installed are left out."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
