"""What commands leave behind, advise and list: presets, runs, Ray's sessions, help."""

import os
import re
import subprocess
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

from cluster import leftovers
from settings.mqvae import MQVAESettings
from tests.field.table import Field, Row
from tests.tiny import run
from workflow.preset import take
from workflow.runs_command import list_runs
from workspace.errors import UserError
from workspace.runs import RUNS
from workspace.settings_help import settings_text

ROOT = Path(__file__).resolve().parents[2]
HELP, PRESETS, LEFT = "help", "presets", "what stays behind"


def helped(text: str | None, words: str) -> Callable[[Field, Path], str]:
    """The help's note and one of its settings, for a params file with this text (None: there is none)."""

    def outcome(field: Field, folder: Path) -> str:
        params = folder / "params.yaml"
        if text is not None:
            params.write_text(text, encoding="utf-8")
        said = settings_text(MQVAESettings, params).replace(f"{folder}/", "")
        lines = said.splitlines()
        at = next(number for number, line in enumerate(lines) if words in line)
        notes = [line.strip() for line in lines if line.startswith("  ! ")]
        return "; ".join([*notes, lines[at].strip(), lines[at + 1].strip()])

    return outcome


def taken(name: str, present: str, *where: str) -> Callable[[Field, Path], str]:
    """Take a preset over a params.yaml; what is said, or what it reads now."""

    def outcome(field: Field, folder: Path) -> str:
        (folder / "presets").symlink_to(ROOT / "presets")
        for made in ("images", "nets"):
            (folder / made).mkdir()
        for net in ("squeezenet1_1", "lpips_squeeze_v0.1"):
            (folder / "nets" / f"{net}.safetensors").touch()
        for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "start"]):
            run(folder, "git", *command)
        (folder / "params.yaml").write_text(present, encoding="utf-8")
        said = ""
        with chdir(folder):
            try:
                take(name, *where)
            except UserError as error:
                said = str(error)
        text = (folder / "params.yaml").read_text(encoding="utf-8")
        source = re.search(r"^  source: (.*)$", text, re.MULTILINE)
        return said or f"params.yaml reads {source and source[1]}"

    return outcome


def failed_start(field: Field, folder: Path) -> str:
    """A sample that is refused after its run was opened, then the list of runs."""
    world = field.world()
    told = world.run("sample", "--class", "stra", "--out", str(folder / "out"))
    with chdir(world.root):
        left = [line for line in list_runs() if line.startswith("sample/")]
    return f"{told.partition(';')[0]}; {len(left)} runs of sample are listed"


def dead_sessions(field: Field, folder: Path) -> str:
    """A dead session and one of a living process, in the place of this workspace; what a start leaves of them."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    with chdir(folder):
        dead, alive = (
            leftovers.place() / f"session_2026-01-01_00-00-00_000000_{pid}"
            for pid in (ended.pid, os.getppid())
        )
        dead.mkdir()
        alive.mkdir()
        removed = leftovers.remove_dead()
        stays = alive.is_dir() and not dead.exists()
        alive.rmdir()
        leftovers.remove_dead()
    return f"{removed} removed, the living one {'stays' if stays else 'is gone'}"


def make_help(field: Field, folder: Path) -> str:
    """The targets with digits in `make help`."""
    command = ["make", "-s", "-f", str(ROOT / "Makefile"), "help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return " ".join(line.split()[0] for line in said.splitlines() if re.search(r"\d", line.split()[0]))


def damaged_shapes(field: Field, folder: Path) -> str:
    """The manifest of the drawn shapes is gone; what `shard` says."""
    world = field.world()
    with world.damaged(world.artifact("shapes") / "manifest.json", None):
        return world.run("shard", "--out", str(folder / "out"))


def no_runs(field: Field, folder: Path) -> str:
    """`.runs` of a workspace in which nothing ran."""
    with chdir(folder):
        assert not RUNS.exists()
        return f"{len(list_runs())} runs"


ROWS: tuple[Row, ...] = (
    Row("--help lists no settings", HELP, "`stages.train_mqvae --help`, nested settings",
        "mqvae.model.mask_ratio = 0.25; number, ≥ 0, < 1: share of the cells",
        helped("mqvae: {model: {mask_ratio: 0.25}}\n", "mqvae.model.mask_ratio")),
    Row("--help without params.yaml", HELP, "no params.yaml",
        "params.yaml does not exist: take one with `cp presets/shapes.yaml params.yaml`; mqvae.steps; whole number, ≥ 1",
        helped(None, "mqvae.steps")),
    Row("--help with a params.yaml that is not YAML", HELP, "`mqvae: [`",
        "params.yaml is not YAML", helped("mqvae: [", "mqvae.steps")),
    Row("--help with a slip in params.yaml", HELP, "`mqvae: {stpes: 3}`",
        "mqvae.stpes is not a setting. Did you mean steps", helped("mqvae: {stpes: 3}", "mqvae.steps")),
    Row("a preset whose images are not there", PRESETS, "`make repro PRESET=flowers`, no data/flowers, no weights",
        "`make repro PRESET=flowers SOURCE=/path/to/images WEIGHTS=/path/to/weights`", taken("flowers", "")),
    Row("a preset of downloads whose images are not there", PRESETS, "`make repro PRESET=imagenet`",
        "presets/imagenet.yaml reads images in data/imagenet, which does not exist", taken("imagenet", "")),
    Row("a preset with images elsewhere", PRESETS, "`make repro PRESET=flowers SOURCE=images WEIGHTS=nets`, params.yaml a preset",
        "params.yaml reads images",
        taken("flowers", (ROOT / "presets" / "shapes.yaml").read_text(encoding="utf-8"), "images", "nets")),
    Row("a preset over settings of one's own", PRESETS, "`make repro PRESET=shapes` with an edited params.yaml",
        "keep them by `git commit -m mine params.yaml`, or drop them by `git checkout params.yaml`",
        taken("shapes", "mine: 1\n")),
    Row("a preset that does not exist", PRESETS, "`make repro PRESET=flower`",
        "there is no preset flower; expected one of coco,", taken("flower", "")),
    Row("failed starts fill the list of runs", LEFT, "`stages.sample --class stra --out DIR`, then `workspace.runs list`",
        "0 runs of sample are listed", failed_start),
    Row("a list of no runs", LEFT, "`workspace.runs list` before anything ran", "0 runs", no_runs),
    Row("Ray's sessions stay in /tmp for ever", LEFT, "a session whose processes are gone beside one that lives",
        "1 removed, the living one stays", dead_sessions),
    Row("targets with digits are missing from make help", HELP, "`make help`", "table6 table7 figure6", make_help),
    Row("a command that is advised does not exist", HELP, "the drawn shapes lose their manifest",
        "run `dvc repro demo/dvc.yaml:draw_shapes`", damaged_shapes),
)  # fmt: skip
