"""Every command of docs/experiments.md runs, in order, in a repository where the workflow has run at tiny scale."""

import re
import shlex
from pathlib import Path

import pytest

from pipelines.home import HOME
from tests.committed import ROOT
from tests.prefect_home import DATABASE, copy_of_the_database
from tests.tiny import copy_of, finished_repository, run
from tests.typed import typed

pytest.importorskip("dvc", reason="DVC is not installed")
PAGE = ROOT / "docs" / "experiments.md"


def recipes() -> dict[str, list[str]]:
    """Heading → the commands below it."""
    found: dict[str, list[str]] = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
        found[section.splitlines()[0]] = [line for block in blocks for line in block.splitlines()]
    return found


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to change; `../shelf` is its own."""
    root = tmp_path_factory.mktemp("recipes") / "repository"
    copy_of(finished_repository(tmp_path_factory), root)
    copy_of_the_database(tmp_path_factory, root / HOME / DATABASE)
    return root


EXPECTED = {
    "dvc exp run --name slower": [
        *(f"Running stage '{name}'" for name in ("train_stackformer", "sample", "evaluate", "report")),
        "Ran experiment",
    ],
    "dvc exp show --no-pager --drop": ["slower", "stackformer.learning_rate", "nats_per_image"],
    "dvc exp show --no-pager --csv": ["strong"],
    "dvc params diff": ["stackformer.learning_rate", "0.002"],
    "dvc metrics diff": ["nats_per_image"],
    "python -m pipelines.plots diff": ["index.html"],
    "git merge": ["Auto-merging", "stopped before committing as requested"],
    "dvc repro": ["Running stage 'evaluate'", "Running stage 'report'"],
    "dvc status": ["up to date"],
    "python -m reporting.compare": ["train_stackformer", "evaluate"],
    "dvc exp run --temp": ["Running stage 'sample'"],
    "python -m pipelines.sweep": [
        "done    width=16",
        "done    width=32",
        "(1) train_stackformer/",
        "*",
        "index.html",
    ],
    "python -m stages.train_mqvae": ["→ .runs/tuned"],
    "python -m stages.train_stackformer": ["→ .runs/tuned-stackformer"],
    "python -m workflow.card mqvae": ["numbers in its README.md"],
    "python -m workflow.card stackformer": ["numbers in its README.md"],
    "python -m pipelines.view": ["Running stage 'experiments/table7/dvc.yaml:mqvae@demask-sa-0'"],
    "dvc exp run --name wide": ["Stage 'train_stackformer' is cached - skipping run"],
    "python -m shards.verify": ["512 train, 64 val images are intact"],
    "python -m stages.sample": ["→ .runs/samples-v1"],
    "dvc status --cloud": ["in sync"],
}
"""The start of a command → what it must say."""

IN_PROCESS = ("dvc ", "python -m stages.", "python -m reporting.", "python -m shards.", "python -m workflow.")
"""What needs no process of its own here, nor do the stages that DVC starts."""
NEVER = ("Running stage 'shard'", "Running stage 'train_mqvae'", "Running stage 'tokenize'")


@pytest.mark.parametrize("heading", list(recipes()))
def test_the_commands_of_the_page_do_what_it_says(repository: Path, heading: str) -> None:
    for command in recipes()[heading]:
        words = shlex.split(command)
        said = (
            typed(repository, *words, stages_here=True)
            if command.startswith(IN_PROCESS)
            else run(repository, *words, seconds=600)
        )
        starts = [start for start in EXPECTED if command.startswith(start)]
        expected = EXPECTED[max(starts, key=len)] if starts else []
        assert [word for word in expected if word not in said] == [], f"{command} said {said}"
        assert not [words for words in NEVER if words in said], f"{command} said {said}"
        if command.startswith("dvc exp show --no-pager --drop"):
            assert max(map(len, said.splitlines())) <= 80, said


def test_every_expectation_is_of_a_command_on_the_page() -> None:
    commands = [command for commands in recipes().values() for command in commands]
    assert len(commands) > 25
    assert [start for start in EXPECTED if not any(command.startswith(start) for command in commands)] == []
