"""Sets of images that a setting names, and whether DVC notices when they change.

DVC cannot take a dependency from each entry of a list, so `python -m workspace.code --write` (`make deps`) writes their manifests
into dvc.yaml (decision 0067). A run knows the sets by their fingerprints either way.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from workflow.command_line import PIPELINES
from workspace.code import manifests_of
from workspace.progress import say
from workspace.quick_yaml import quick_yaml

if TYPE_CHECKING:  # importing the sections takes seconds, too long for a stage's `--help`
    from workflow.params import Params


def tell_unwatched(params: "Params", path: Path) -> None:
    """Say which sets of `mqvae.sources` dvc.yaml does not watch."""
    pipeline = Path(PIPELINES[0])
    if not pipeline.is_file():
        return
    deps = quick_yaml(pipeline.read_bytes())["stages"]["train_mqvae"]["deps"]
    missing = [name for name in manifests_of(params.mqvae.model_dump(mode="json"), deps) if name not in deps]
    if missing:
        say(
            f"note: {PIPELINES[0]} does not watch {', '.join(missing)}: run `make deps`, so that "
            "`dvc repro` notices when the set changes"
        )
