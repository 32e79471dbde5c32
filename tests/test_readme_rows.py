"""README's and docs/commands.md's commands, and README's lines of Python, where `make repro` has run (here at tiny scale)."""

import re
import runpy
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny import copy_of, finished_repository, run
from tests.typed import typed

pytest.importorskip("dvc", reason="DVC is not installed")
ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TABLE = README.partition("## Working with it")[2].partition("\n## ")[0] + (
    ROOT / "docs" / "commands.md"
).read_text(encoding="utf-8")
BLOCKS = [
    line.split("  #")[0].strip()
    for page in (README, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    for line in block.splitlines()
]
"""What is typed outside of tables."""
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    command
    for row in re.findall(r"^\| .*? \| (.*) \|$", TABLE, re.MULTILINE)
    for command in re.findall(r"`((?:dvc|make|python) [^`]+)`", row)
]
SAYS = {
    "dvc repro": "Data and pipelines are up to date",
    "dvc repro -f -s evaluate": "Running stage 'evaluate'",
    "dvc metrics diff": "",
    "dvc params diff": "",
    "python -m pipelines.plots diff": "file://",
    "python -m reporting.compare --rev HEAD~1": "evaluate",
    "python -m stages.sample --class star --out stars": "[sample] → stars",
    "python -m stages.sample --set sample.num_images=1 --set sample.png_files=true --out mine": "[sample] → mine",
    "python -m stages.sample --edit photo.png --keep upper --class star --out edited": "[sample] → edited",
    "python -m stages.tokenize --help": "tokenize.block = ",
    "python -m workspace.runs list": "train_mqvae/",
    "python -m workflow.preset faces --out faces.yaml": "",
    "python -m workflow.preset mine --save": "",
    "python -m workspace.renamed params.yaml": "params.yaml: no old names",
    "python -m cluster.head clean": "removed 0 dead Ray sessions",
    "python -m shards.inspect data/mine": "class_folder",
    "python -m shards.describe artifacts/tokens": "codes",
    "python -m shards.verify artifacts/tokens": "images are intact",
    "python -m shards.pack_tokens --help": "usage: python -m shards.pack_tokens",
    "python -m stages.evaluate --images artifacts/samples --out scores": "[evaluate] → scores",
    "python -m workspace.dvc_lock": "is whole, or there is none",
    "python -m shards.list --help": "usage: python -m shards.list",
    "python -m shards.home --help": "usage: python -m shards.home",
    "python -m shards.npz artifacts/samples samples.npz": "images → samples.npz",
    "python -m shards.npz artifacts/shards real.npz --split val": "images → real.npz",
    "python -m shards.token_sets --help": "usage: python -m shards.token_sets",
    "python -m workflow.card mqvae --out upload": "numbers in its README.md",
}
"""What is typed as it stands → what it says."""
OF_ITS_OWN = ("dvc repro", "python -m pipelines", "python -m workspace")
"""What is tried as a process of its own; the rest by its `main`, in this one."""
BY_CAPTION = 'python -m stages.sample --prompt "a small red ring on a striped blue background" --out ring'
LONG = {
    "dvc exp run -S stackformer.model.width=256",
    "python -m pipelines.reproduce",
    "python -m pipelines.sweep --grid stackformer.model.width=64,128",
    "python -m benchmarks.gpu --minutes 12 --out results",
    "make dashboard", "make deps", "make table6", "make table7", "make figure6",
}  # fmt: skip
"""Minutes of work, or of installation, which other tests do at their own scale: here only that the program takes these words."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to change, one commit after the results."""
    folder = copy_of(finished_repository(tmp_path_factory), tmp_path_factory.mktemp("readme") / "repository")
    run(folder, "git", "commit", "-q", "--allow-empty", "-m", "later")
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(noise).save(folder / "photo.png")
    for name in ("cat", "dog"):
        (folder / "data" / "mine" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "data" / "mine" / name / "1.png")
    return folder


def test_each_command_of_the_table_is_tried_here() -> None:
    assert len(COMMANDS) > 15 and set(COMMANDS) == SAYS.keys() | LONG | {BY_CAPTION}


@pytest.mark.parametrize("command", list(SAYS))
def test_what_is_typed_works(repository: Path, command: str) -> None:
    tried = run if command.startswith(OF_ITS_OWN) else typed
    assert SAYS[command] in tried(repository, *shlex.split(command))


def test_the_lines_of_python_work_as_they_are(repository: Path) -> None:
    (lines,) = PYTHON
    said = run(repository, "python", "-c", lines)
    assert said.count("tensor([[") == 2
    assert Image.open(repository / "star.png").size == (16, 16)


def test_readmes_picture_is_drawn_from_the_artifacts(repository: Path) -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / "pictures" / "draw.py"))["page_of"](repository / "artifacts")
    assert drawn.width > 1000 and drawn.height > drawn.width // 2
    assert len(drawn.getcolors(1 << 20)) > 100


def test_one_picture_is_one_file(repository: Path) -> None:
    assert len(list((repository / "mine" / "png").glob("*.png"))) == 1


def test_a_caption_asked_of_the_demo_is_answered_by_what_to_type(repository: Path) -> None:
    said = typed(repository, *shlex.split(BY_CAPTION), check=False)
    assert said.count("\n") == 1 and "`make repro PRESET=shapes_text` trains one" in said
    advised = re.findall(r"`(python [^`]*)`", said)
    assert len(advised) == 1 and "[sample] → DIR" in typed(repository, *shlex.split(advised[0]))


def test_what_is_typed_outside_of_tables_is_tried_here_too() -> None:
    others = {"git clone URL mqvae-workflow && cd mqvae-workflow", "source .venv/bin/activate"}
    others |= {line for line in BLOCKS if line.startswith("python -m pytest tests/")}
    assert [
        line for line in BLOCKS if line not in SAYS.keys() | others and not line.startswith("make ")
    ] == []
    assert all((ROOT / line.split()[-1]).is_file() for line in others if "pytest" in line)


@pytest.mark.parametrize("command", sorted(word for word in {*LONG, *BLOCKS} if word.startswith("make")))
def test_make_has_the_target(repository: Path, command: str) -> None:
    name, *words = shlex.split(command)
    done = subprocess.run([name, "-n", *words], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
