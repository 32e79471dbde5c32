"""What a case is, and the small world of real artifacts that cases damage."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import presets
from tests.committed import ROOT
from workflow import running
from workflow.command_line import parser_of
from workflow.stage import stage_named
from workspace.errors import UserError
from workspace.settings import STAGES

SMALL = {
    "  train: 256": "  train: 54",
    "  val: 64": "  val: 27",
    "samples_per_shard: 100": "samples_per_shard: 20",
    "    steps: 40\n": "    steps: 4\n",
    "  steps: 24": "  steps: 4",
    "quantize_start: 4 ": "quantize_start: 1 ",
    "checkpoint_every: 8": "checkpoint_every: 2",
    "  warmup_steps: 4": "  warmup_steps: 1",
    "num_images: 36": "num_images: 12",
    "samples_per_shard: 24": "samples_per_shard: 12",
}
"""Lines of the preset tiny that are made smaller still."""


@dataclass(frozen=True)
class Case:
    """One hostile thing.

    Attributes:
        name: unique, in words.
        group: dirty images, captions, broken artifacts, no way in, accidents.
        made: how the generator makes it.
        expected: what must be in the outcome.
        outcome: makes it in a fresh folder beside the world, tries it, and says what came of it.
    """

    name: str
    group: str
    made: str
    expected: str
    outcome: Callable[["World", Path], str]


@dataclass(frozen=True)
class World:
    """A folder with params.yaml, dvc.yaml and every artifact, made by the stages themselves."""

    root: Path

    def artifact(self, name: str) -> Path:
        """Where an artifact lies."""
        return self.root / "artifacts" / name

    def run(self, name: str, *options: str) -> str:
        """Run a stage as `python -m stages.NAME OPTIONS` would, from the start; what a user is told, or "done"."""
        stage = stage_named(name)
        with chdir(self.root):
            arguments = parser_of(stage).parse_args(options)
            shutil.rmtree(f".runs/{name}", ignore_errors=True)
            return self.told(lambda: running.run(stage, arguments))

    def told(self, work: Callable[[], object]) -> str:
        """What a user is told of some work: "done", or the error's one line without what differs from day to day."""
        try:
            work()
        except Exception as error:
            line = running.told_in_a_line(error)
            if line is None:
                raise
            assert "\n" not in line, line
            return f"refused: {plain(line, self.root)}"
        return "done"

    @contextmanager
    def damaged(self, path: Path, data: bytes | None) -> Iterator[Path]:
        """A file of the world with other bytes (None: without it), mended at the end; its hard links are left alone."""
        whole = path.read_bytes()
        path.unlink()
        if data is not None:
            path.write_bytes(data)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)
            path.write_bytes(whole)


def plain(text: str, root: Path) -> str:
    """A message without this machine's folders, checksums and process ids."""
    for folder in (root, root.parent, Path(os.path.realpath(root))):
        text = text.replace(f"{folder}/", "").replace(str(folder), ".")
    text = re.sub(
        r"\(traceback in [^;)]*", "(traceback in …", text
    )  # cut where the line is full: how long is the folder's name?
    text = re.sub(r"[\d,]+ bytes", "# bytes", text)
    text = re.sub(r"/tmp/[^ :,;)'\"]*/", "…/", text)
    return re.sub(r"\b[0-9a-f]{12,64}\b", "#", re.sub(r"\b[0-9a-f]{4,64}…", "#…", text))


def refused(work: Callable[[], object], world: World) -> str:
    """What a user is told of some work in the library."""
    return world.told(work)


def make_world(root: Path) -> World:
    """Run every stage at the smallest size."""
    text = presets.text("tiny")
    for old, new in SMALL.items():
        assert old in text, old
        text = text.replace(old, new)
    (root / "demo").mkdir(parents=True)
    (root / "params.yaml").write_text(text, encoding="utf-8")
    for name in ("dvc.yaml", "demo/dvc.yaml"):
        shutil.copyfile(ROOT / name, root / name)
    world = World(root)
    for name in STAGES:
        told = world.run(name)
        assert told == "done", f"{name}: {told}"
    return world


def flipped(data: bytes, place: int, mask: int = 1) -> bytes:
    """The bytes with one of them changed."""
    return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


def fresh(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@contextmanager
def reachable() -> Iterator[Path]:
    """A folder that another user can reach; pytest's own cannot be, since each pytest that starts closes them to other users."""
    with tempfile.TemporaryDirectory(prefix="hostile-", ignore_cleanup_errors=True) as place:
        Path(place).chmod(0o755)
        yield Path(place)


def is_user_error(error: Exception) -> bool:
    """Whether it is ours."""
    return isinstance(error, UserError)
