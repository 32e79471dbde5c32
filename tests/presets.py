"""The presets of the working tree, each written out in full."""

from functools import cache
from typing import Any

from tests.committed import ROOT
from workflow.preset import rendered
from workspace.settings import read_tree

FOLDER = ROOT / "presets"
FILES = sorted(FOLDER.glob("*.yaml"))


@cache
def text(name: str) -> str:
    """The params file that `make preset PRESET=NAME` writes."""
    return rendered(name, folder=FOLDER)


def tree(name: str) -> dict[str, Any]:
    """Its values."""
    return read_tree(FOLDER / f"{name}.yaml")
