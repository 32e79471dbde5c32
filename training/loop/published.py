"""Which validation a training's published weights had: that of the last step, or the best of those whose weights were kept."""

from pathlib import Path

from workspace.exact.manifest import read_json, write_json

PUBLISHED = "published.json"


def write_published(folder: Path, steps: int, numbers: dict[str, float]) -> None:
    """Note in the folder of the run's checkpoints after how many steps the weights were as published, and their validation."""
    write_json(folder / PUBLISHED, {"steps": steps, "numbers": numbers})


def read_published(folder: Path) -> tuple[int, dict[str, float]]:
    """What `write_published` noted."""
    found = read_json(folder / PUBLISHED)
    return found["steps"], found["numbers"]
