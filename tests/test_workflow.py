"""The workflow itself, as users run it: real DVC, real processes, real kills, real Ray, a real Prefect server.

The laws are checked on a copy of a repository in which `presets/tiny` has run from scratch. The tests that change it undo it.
"""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
import yaml

from pipelines.view import tables_in_view
from tests.hostile.interrupts import Moment, artifacts_of, tried, usable
from tests.hostile.table import World
from tests.tiny import BIN, copy_of, environment, finished_repository, run, stages_run
from tests.typed import typed
from tests.waiting import matching, until
from workspace.settings import STAGES


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which `dvc repro` has just run everything at tiny scale, to change."""
    return copy_of(finished_repository(tmp_path_factory), tmp_path_factory.mktemp("workflow") / "tiny")


def stale(folder: Path) -> set[str]:
    """Which stages DVC says are out of date by themselves."""
    return set(json.loads(typed(folder, "dvc", "status", "--json")))


@contextmanager
def edited(path: Path, old: str, new: str) -> Iterator[None]:
    """A file with an edit, undone at the end."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_reproducing_again_runs_nothing(tiny: Path) -> None:
    said = run(tiny, "dvc", "repro")
    assert stages_run(said) == set() and "Data and pipelines are up to date" in said


def test_twice_from_scratch_gives_the_same_bytes_without_dvc_and_in_one_process(
    tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "demo").mkdir()
    for name in ("params.yaml", "dvc.yaml", "demo/dvc.yaml"):
        shutil.copyfile(tiny / name, tmp_path / name)
    again = World(tmp_path)
    assert [again.run(name) for name in STAGES if name != "report"] == ["done"] * 9
    assert artifacts_of(tmp_path) == artifacts_of(tiny)


def test_no_artifact_names_this_machine(tiny: Path) -> None:
    for path in (tiny / "artifacts").rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".html", ".md"):
            assert str(tiny) not in path.read_text(encoding="utf-8"), path


WORDS = ('"""', '"""In other words: ')
"""A file's first docstring is edited."""
EDITS = {
    "models/mqvae/masker.py": WORDS,
    "shards/token_making/readme.py": WORDS,
    "evaluation/protocol.py": WORDS,
    "cluster/training.py": WORDS,
    "workspace/progress.py": WORDS,
    "params.yaml": ("workers: 0", "workers: 1"),
}
"""File → an edit."""
CHANGED = {
    "models/mqvae": {"train_mqvae", "reconstruct", "tokenize"},
    "models": {"sample"},
    "shards/token_making": {"tokenize"},
    "evaluation/protocol.py": {"reference", "tokenize"},
    "evaluation": {"reconstruct", "evaluate", "report"},
}
"""Dependency → the stages of which `dvc status` says that it was modified; tests/test_staleness.py has all other files."""


def test_edits_make_stale_what_they_can_change_and_nothing_else(tiny: Path) -> None:
    with ExitStack() as stack:
        for file, (old, new) in EDITS.items():
            stack.enter_context(edited(tiny / file, old, new))
        said = json.loads(typed(tiny, "dvc", "status", "--json"))
    found: dict[str, set[str]] = {}
    for stage, reasons in said.items():
        for reason in reasons:
            assert reason.keys() == {"changed deps"} and set(reason["changed deps"].values()) == {"modified"}
            for dependency in reason["changed deps"]:
                found.setdefault(dependency, set()).add(stage)
    assert found == CHANGED


def test_an_edit_of_a_setting_makes_its_stage_stale_and_no_other(tiny: Path) -> None:
    with edited(tiny / "params.yaml", "guidance_scale: 3.0", "guidance_scale: 2.5"):
        assert stale(tiny) == {"sample"}


def test_with_a_folder_of_ones_own_draw_shapes_does_not_run(tiny: Path) -> None:
    (tiny / "data").mkdir()
    for path in sorted((tiny / "artifacts" / "shapes" / "train").glob("*.tar")):
        pictures = ["--exclude=*.mask.png", "--wildcards", "*.png"]
        subprocess.run(["tar", "-xf", path, "-C", tiny / "data", *pictures], check=True)
    (tiny / "data" / "train").rename(tiny / "data" / "mine")
    with (
        edited(tiny / "params.yaml", "kind: shapes", "kind: class_folder"),
        edited(tiny / "params.yaml", "source: artifacts/shapes", "source: data/mine"),
    ):
        said = typed(tiny, "dvc", "repro", "--dry", "shard")
        assert stages_run(said) == {"shard"}
        assert World(tiny).run("shard", "--out", "elsewhere") == "done"
    facts = json.loads((tiny / "elsewhere" / "manifest.json").read_text())["facts"]
    assert facts["counts"]["train"] + facts["counts"]["val"] == 256 and len(facts["classes"]) == 9


@pytest.mark.parametrize(
    ("stage", "artifact"), [("train_mqvae", "mqvae"), ("train_stackformer", "stackformer")]
)
def test_a_training_killed_in_the_middle_goes_on_to_the_same_bytes(
    tiny: Path, stage: str, artifact: str
) -> None:
    killed_at_step_8(tiny, stage, f"again/{artifact}")
    assert not (tiny / "again" / artifact).exists() and not list((tiny / ".runs" / stage).glob("*/done.json"))
    typed(tiny, "python", "-m", f"stages.{stage}", "--out", f"again/{artifact}")
    assert files_below(tiny / "again" / artifact) == files_below(tiny / "artifacts" / artifact)


def test_an_edit_in_the_middle_of_a_killed_run_starts_it_fresh(tiny: Path) -> None:
    (killed,) = killed_at_step_8(tiny, "train_stackformer", "again/fresh")
    with edited(tiny / "models/stackformer/model.py", *WORDS):
        numbers = ("--metrics", "again/fresh-numbers")
        run(tiny, "python", "-m", "stages.train_stackformer", "--out", "again/fresh", *numbers)
    rows = (tiny / "again" / "fresh-numbers" / "curves.tsv").read_text().splitlines()[1:]
    logged = [int(row.split("\t")[0]) for row in rows]
    assert logged == list(range(2, 25, 2)), "the new run made all of its steps itself"
    assert (killed / "work" / "step-000000008").is_dir() and not (killed / "done.json").exists()
    shutil.rmtree(killed)


def killed_at_step_8(folder: Path, stage: str, out: str) -> list[Path]:
    """Start a training afresh and kill it once it has a checkpoint; returns its run folders."""
    command = [str(BIN / "python"), "-m", f"stages.{stage}", "--out", out]
    for _ in range(6):  # on a busy machine it may be at its end before this process looks again
        shutil.rmtree(folder / ".runs" / stage, ignore_errors=True)
        shutil.rmtree(folder / out, ignore_errors=True)
        process = subprocess.Popen(command, cwd=folder, env=environment(folder), stderr=subprocess.PIPE)
        until(partial(stopped_or_at_step_8, process, folder / ".runs" / stage), 120, every=0.01)
        process.send_signal(signal.SIGKILL)
        said = process.communicate()[1].decode()
        if process.returncode == -signal.SIGKILL:
            return list((folder / ".runs" / stage).iterdir())
        assert process.returncode == 0, said
    raise AssertionError("it always ended before it could be killed")


def stopped_or_at_step_8(process: "subprocess.Popen[bytes]", runs: Path) -> bool:
    return bool(matching(runs, "*/work/step-000000008")) or process.poll() is not None


def test_two_ray_workers_train_as_one(tiny: Path) -> None:
    curves = {}
    for workers in (0, 2):
        out = f"again/workers-{workers}"
        settings = ("mqvae.precision=float64", f"compute.workers={workers}", "mqvae.channels_last=false")
        changes = [part for setting in settings for part in ("--set", setting)]
        command = ["-m", "stages.train_mqvae", "--out", out, "--metrics", f"{out}-metrics", *changes]
        start = run if workers else typed
        start(tiny, "python", *command)
        header, *rows = (tiny / f"{out}-metrics" / "curves.tsv").read_text().splitlines()
        column = header.split("\t").index("loss")
        curves[workers] = [float(row.split("\t")[column]) for row in rows]
    assert curves[2] == pytest.approx(curves[0], rel=1e-5)


def test_shards_mapped_over_ray_actors_are_those_of_one_process(tiny: Path) -> None:
    shutil.rmtree(tiny / ".runs" / "tokenize")
    run(tiny, "python", "-m", "stages.tokenize", "--out", "again/tokens", "--set", "compute.workers=2")
    assert files_below(tiny / "again" / "tokens") == files_below(tiny / "artifacts" / "tokens")


def test_a_flow_typed_in_a_shell_runs_what_is_stale_and_shows_the_rest_as_cached(tiny: Path) -> None:
    """With a server and a database of its own, from nothing; stages that need no PyTorch. tests/pipelines has the whole graph."""
    with edited(tiny / "params.yaml", "samples_per_shard: 100", "samples_per_shard: 50"):
        said = run(tiny, "python", "-m", "pipelines.reproduce", "shard")
    told = dict(reversed(line.split()) for line in said.splitlines() if line.startswith(("cached ", "ran ")))
    assert told == {"draw_shapes": "cached", "shard": "ran"} and "Cached" in said
    run(tiny, "git", "checkout", "-q", "dvc.lock", "metrics")
    typed(tiny, "dvc", "checkout", "-q")


def test_a_users_mistake_is_one_line_and_no_traceback(tiny: Path) -> None:
    said = run(tiny, "python", "-m", "stages.sample", "--set", "sample.guidnace=3", "--out", "x", check=False)
    assert said.count("\n") == 1 and "sample.guidnace is not a setting. Did you mean guidance" in said
    told = World(tiny).run("sample", "--set", "sample.guidance_scale=3")
    assert told.startswith("refused") and "--set needs --out" in told
    told = World(tiny).run("sample", "--mqvae", "artifacts/shards", "--out", "x")
    assert told.startswith("refused") and "is an artifact of kind image-shards, expected mqvae" in told


def test_samples_asked_for_by_hand_come_as_plain_files(tiny: Path) -> None:
    settings = (
        "sample.num_images=4",
        "sample.batch=4",
        "sample.samples_per_shard=4",
        "sample.png_files=true",
    )
    changes = [part for setting in settings for part in ("--set", setting)]
    assert World(tiny).run("sample", "--out", "by-hand", *changes) == "done"
    assert (
        len(list((tiny / "by-hand" / "png").glob("*.png"))) == 4 and (tiny / "by-hand" / "grid.png").is_file()
    )


def test_a_class_asked_for_by_hand_is_drawn_sixteen_times(tiny: Path) -> None:
    world = World(tiny)
    assert world.run("sample", "--class", "star", "--out", "stars") == "done"
    told = json.loads((tiny / "stars" / "manifest.json").read_text())["facts"]
    assert told["settings"]["classes"] == ["star"] and len(list((tiny / "stars" / "png").glob("*.png"))) == 16
    for options, words in (
        (["--class", "star"], "--class needs --out FOLDER"),
        (["--class", "stra", "--out", "x"], "sample.classes names stra; artifacts/stackformer knows"),
        (["--prompt", "a star", "--out", "x"], "sample.prompts needs a Stackformer of captions"),
    ):
        said = world.run("sample", *options)
        assert said.startswith("refused") and words in said


FEW_STEPS = [
    "compute.workers=0",
    *(
        f"{section}.{name}=4"
        for section in ("mqvae", "stackformer")
        for name in ("steps", "checkpoint_every", "validate_every")
    ),
    "mqvae.quantize_start=1",
    "stackformer.warmup_steps=1",
    "sample.num_images=12",
    "sample.samples_per_shard=12",
]


def test_a_table_runs_its_arms_once_and_an_added_arm_alone(tiny: Path) -> None:
    catalogue, table = tiny / "experiments" / "arms.yaml", tiny / "experiments" / "table7" / "params.yaml"
    arms = yaml.safe_load(catalogue.read_text())
    arms["bases"]["shapes"], arms["seeds"]["shapes"] = FEW_STEPS, [0]
    catalogue.write_text(yaml.safe_dump(arms))

    def repro(trained: list[str], generated: list[str]) -> set[str]:
        chosen = yaml.safe_load(table.read_text()) | {"trained": trained, "generated": generated}
        table.write_text(yaml.safe_dump(chosen))
        with tables_in_view(tiny):
            said = typed(tiny, "dvc", "repro", "experiments/table7/dvc.yaml", stages_here=True)
        return {name.removeprefix("experiments/table7/dvc.yaml:") for name in stages_run(said)}

    assert repro(["demask-sa"], []) == {"mqvae@demask-sa-0"}
    assert repro(["demask-sa"], []) == set()
    assert repro(["demask-sa", "demask-dcsa"], ["demask-sa"]) == {
        "mqvae@demask-dcsa-0",
        "stackformer@demask-sa-0",
    }
    made = tiny / "artifacts" / "arms" / "demask-sa" / "0" / "metrics"
    assert {path.name for path in made.iterdir()} == {
        "train_mqvae", "reconstruct", "tokenize", "train_stackformer", "sample", "evaluate"}  # fmt: skip
    subprocess.run(["git", "checkout", "-q", "experiments"], cwd=tiny, check=True)


def test_make_repro_stopped_twice_by_ctrl_c_goes_on_to_the_same_bytes(tiny: Path) -> None:
    assert tried(usable(tiny), Moment("tokenize", 1.5, "SIGINT", True), artifacts_of(tiny)) == ""
