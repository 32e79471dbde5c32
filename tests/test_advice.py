"""Every command that a message names can be typed: each has a row here, and each row is resolved by the tool that runs it."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from evaluation.features.efficientnet import WHEEL
from tests import presets
from tests.committed import copy_of_the_working_tree
from tests.tiny import run
from workspace.code import PACKAGES
from workspace.exact.manifest import PRODUCER, address_of
from workspace.settings import STAGES

ROOT = Path(__file__).resolve().parents[1]
COMMAND = re.compile(r"`((?:dvc|make|python|pip|git|ray|cp|ln)\b [^`\n]*)`")
ADDRESSES = sorted(PRODUCER.values())
METRICS = [name for name in STAGES if name not in ("draw_shapes", "report")]
PRESETS = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))


def repro(*addresses: str) -> list[str]:
    return [f"dvc repro {address}" for address in addresses]


ROWS: dict[str, list[str]] = {
    **{
        f"dvc repro {name}": repro(name)
        for name in STAGES
        if name not in ("draw_shapes", "reference", "reconstruct", "report")
    },
    "dvc repro demo/dvc.yaml:draw_shapes": repro("demo/dvc.yaml:draw_shapes"),
    "dvc repro {PRODUCER[kind]}": repro(*ADDRESSES),
    "dvc repro {PRODUCER[manifest.kind]}": repro(*ADDRESSES),
    "dvc repro {address_of(name)}": repro(*map(address_of, STAGES)),
    "dvc repro {address_of(folder.root.parent.name)}": repro(*map(address_of, STAGES)),
    "dvc repro {step.address}": repro(*map(address_of, STAGES)),
    "dvc repro {stage}": repro(*METRICS),
    "dvc repro --force --single-item shard": repro("--force --single-item shard"),
    "dvc pull {shlex.quote(path)}": ["dvc pull data/x.listing"],
    "dvc pull": ["dvc pull"],
    "python -m workspace.dvc_lock": ["python -m workspace.dvc_lock"],
    "python -m workspace.renamed {path}": ["python -m workspace.renamed params.yaml"],
    "python -m workspace.runs list": ["python -m workspace.runs list"],
    "python -m workspace.runs drop {target.root.name}": ["python -m workspace.runs drop 0123456789abcdef"],
    "python -m workspace.runs drop {folder.parent.name}": ["python -m workspace.runs drop 0123456789abcdef"],
    "python -m workspace.runs adopt {folder.parent.name}": ["python -m workspace.runs adopt --help"],
    "python -m shards.list FOLDER --out LISTING": ["python -m shards.list images --out LISTING"],
    "python -m shards.list FOLDER --out {path.stem}.listing": [
        "python -m shards.list images --out x.listing"
    ],
    "python -m shards.list {shlex.quote(asked.source)} --out {source}": ["python -m shards.list --help"],
    "python -m shards.list {shlex.quote(source)} --out {listing}": ["python -m shards.list --help"],
    "python -m shards.list FOLDER-OR-URL --out {shlex.quote(path)}": [
        "python -m shards.list images --out x.listing"
    ],
    "python -m shards.list {root} --out {path}": ["python -m shards.list --help"],
    "python -m shards.attach URL --out FOLDER": ["python -m shards.attach --help"],
    "python -m shards.push FOLDER URL --again": ["python -m shards.push --help"],
    "python -m shards.attach {url} --out artifacts/shards": ["python -m shards.attach --help"],
    "pip install {package}": [f"pip install {name}" for name in ("s3fs", "aiohttp", "huggingface_hub")],
    "python -m shards.list": ["python -m shards.list --help"],
    "python -m shards.inspect {source}": ["python -m shards.inspect images"],
    "python -m shards.inspect SOURCE": ["python -m shards.inspect images"],
    "python -m shards.inspect": ["python -m shards.inspect --help"],
    "python -m stages.sample --class {known[0]} --out DIR": [
        "python -m stages.sample --class star --out DIR"
    ],
    'python -m stages.sample --prompt "a star" --out DIR': [
        'python -m stages.sample --prompt "a star" --out DIR'
    ],
    "cp presets/shapes.yaml {path}": ["cp presets/shapes.yaml params.yaml"],
    "git checkout params.yaml": ["git checkout params.yaml"],
    "git commit -m mine params.yaml": ["git commit -m mine params.yaml"],
    "make repro": ["make repro"],
    "make repro PRESET={name}": [f"make repro PRESET={name}" for name in PRESETS],
    "make repro {preset.strip()}{options}": [
        "make repro PRESET=flowers SOURCE=images WEIGHTS=weights",
        "make repro PRESET=imagenet SOURCE=images",
        "make repro PRESET=faces WEIGHTS=weights",
    ],
    "make repro PRESET=flowers SOURCE=/path/to/images": ["make repro PRESET=flowers SOURCE=images"],
    "make repro PRESET=shapes_text": ["make repro PRESET=shapes_text"],
    "make preset PRESET=NAME": ["make preset PRESET=faces"],
    "git diff --no-index {PRESETS}/{WHOLE} {PARAMS}": ["git diff --no-index presets/shapes.yaml params.yaml"],
    "git diff params.yaml": ["git diff params.yaml"],
    "git fetch --unshallow": ["git fetch --unshallow"],
    "git init": ["git init"],
    **{
        f"make {target}": [f"make {target}"]
        for target in ("table6", "figure6", "court", "text", "deps", "dashboard")
    },
    "make {table['base']}": ["make court", "make court_photographs"],
    "ray start --head": ["ray start --head"],
    "pip install clean-fid": ["pip install clean-fid"],
    "pip install pyarrow": ["pip install pyarrow"],
    "pip install pillow-heif": ["pip install pillow-heif"],
    "python -m shards.npz artifacts/shards real.npz --split val": ["python -m shards.npz --help"],
    "pip install {WHEEL}": [f"pip install {WHEEL}"],
    "pip install --force-reinstall --no-deps {WHEEL}==0.1.0": [
        f"pip install --force-reinstall --no-deps {WHEEL}==0.1.0"
    ],
}
"""The commands of messages, as they stand in the code → the same with each value, or a usual one, in place."""

NOT_ADVICE = {
    "dvc plots": "the parser's help of pipelines.plots says what its word belongs to",
    "dvc repro -f": "the help of a stage's --force compares itself with it",
    "git lfs pull": "of a program that whoever has pointers of its files has",
    "git annex get .": "the same",
}
"""What a text names without telling anybody to type it, or of programs that this project does not bring."""


def text_of(node: ast.expr) -> str:
    """A string, or an f-string with its expressions in braces."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    return f"{{{ast.unparse(node.value)}}}" if isinstance(node, ast.FormattedValue) else ""


def named(path: Path) -> Iterator[str]:
    """The commands in a file's strings that are not docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in docstrings | parts:
            yield from COMMAND.findall(text_of(node).replace("{BY_HAND_COMMAND}", "python -m stages.sample"))


def test_each_command_that_a_message_names_has_a_row_and_each_row_a_message() -> None:
    files = (path for package in (*PACKAGES, "pipelines") for path in (ROOT / package).rglob("*.py"))
    found = {command for path in files for command in named(path)} - NOT_ADVICE.keys() - {"dvc repro"}
    assert found - ROWS.keys() == set(), "a message names a command that no row here tries"
    assert ROWS.keys() - found == set(), "no message names these any more"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as a user has it, with a folder of images, weights, and a run to forget."""
    folder = copy_of_the_working_tree(tmp_path_factory.mktemp("advice") / "repository")
    (folder / "params.yaml").write_text(presets.text("tiny"), encoding="utf-8")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        run(folder, "git", *command)
    for name in ("cat", "dog"):
        (folder / "images" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "images" / name / "1.png")
    return folder


COMMANDS = sorted({command for commands in ROWS.values() for command in commands})


def of(program: str) -> list[str]:
    return [command for command in COMMANDS if f"{command} ".startswith(f"{program} ")]


def test_dvc_finds_each_stage_that_is_named(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = pytest.importorskip("dvc.repo", reason="DVC is not installed").Repo
    monkeypatch.chdir(repository)
    with repo(str(repository)) as opened:
        for command in of("dvc repro"):
            (stage,) = opened.stage.collect(command.split()[-1])
            assert stage.cmd.split()[2] == f"stages.{command.split()[-1].rpartition(':')[2]}"


def test_dvc_pull_brings_what_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = pytest.importorskip("dvc.repo", reason="DVC is not installed").Repo
    monkeypatch.chdir(tmp_path)
    listing = tmp_path / "data" / "x.listing"
    listing.parent.mkdir()
    listing.write_text("a listing")
    with repo.init(no_scm=True) as opened:
        with opened.config.edit("local") as config:
            config["remote"] = {"far": {"url": str(tmp_path / "far")}}
            config["core"] = {"remote": "far"}
        opened.add(str(listing))
        opened.push()
        shutil.rmtree(opened.cache.local.path)
    listing.unlink()
    for command in of("dvc pull"):
        subprocess.run([sys.executable, "-m", *shlex.split(command)], check=True, capture_output=True)
    assert listing.read_text() == "a listing"


def test_git_fetch_brings_the_revisions_of_a_shallow_clone(repository: Path, tmp_path: Path) -> None:
    run(repository, "git", "commit", "-q", "--allow-empty", "-m", "one more")
    run(tmp_path, "git", "clone", "-q", "--depth=1", repository.as_uri(), "shallow")
    assert run(tmp_path / "shallow", "git", "rev-list", "--count", "HEAD").strip() == "1"
    (command,) = of("git fetch")
    run(tmp_path / "shallow", *shlex.split(command))
    assert int(run(tmp_path / "shallow", "git", "rev-list", "--count", "HEAD")) >= 2


@pytest.mark.parametrize("command", of("make"))
def test_make_has_each_target(repository: Path, command: str) -> None:
    words = shlex.split(command)
    done = subprocess.run(
        [words[0], "-n", *words[1:]], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for word in words[2:]:
        assert word.partition("=")[2] in done.stdout  # the rule makes use of it


@pytest.mark.parametrize("command", [command for command in of("python") if "stages.sample" not in command])
def test_each_module_takes_the_words_that_are_named(repository: Path, command: str) -> None:
    run_folder = repository / ".runs" / "shard" / "0123456789abcdef"
    (run_folder / "work").mkdir(parents=True, exist_ok=True)
    (run_folder / "run.json").write_text('{"adopted": [], "identity": {}, "seconds": 0.0}')
    assert run(repository, *shlex.split(command))
    assert run_folder.exists() is ("drop" not in command)


def test_cp_and_git_do_what_is_said(repository: Path) -> None:
    params = repository / "params.yaml"
    for command in of("cp"):
        params.unlink()
        subprocess.run(shlex.split(command), cwd=repository, check=True)
        assert params.read_bytes() == (repository / "presets" / "shapes.yaml").read_bytes()
    for command, words in (("git checkout params.yaml", ""), ("git commit -m mine params.yaml", "# mine")):
        params.write_text(f"{params.read_text(encoding='utf-8')}# mine\n", encoding="utf-8")
        assert "+# mine" in run(repository, "git", "diff", "params.yaml")
        run(repository, *shlex.split(command))
        assert run(repository, "git", "status", "--short", "params.yaml") == ""
        assert words in params.read_text(encoding="utf-8")


def test_each_package_and_program_is_one_that_the_project_pins() -> None:
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower()
    for command in (*of("pip"), *of("ray")):
        words = shlex.split(command)
        name = words[-1].partition("==")[0] if words[0] == "pip" else words[0]
        assert f"\n{name.lower()}==" in pinned


def test_make_help_has_every_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(" ".join(re.findall(r"^\.PHONY:(.*)$", text, re.MULTILINE)).split())
    command = ["make", "-s", "-f", str(ROOT / "Makefile"), "help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in said.splitlines()}
    assert listed.keys() == phony and {"table6", "table7", "figure6"} <= listed.keys()
