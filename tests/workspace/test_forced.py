"""Which command lines of DVC ask to run what is finished."""

import pytest

from workspace.forced import asks_to_run, is_dvc


@pytest.mark.parametrize(
    ("command", "forced"),
    [
        ("/x/bin/python /x/bin/dvc repro -f shard", True),
        ("dvc repro --force", True),
        ("dvc repro -sf shard", True),
        ("dvc repro --force-downstream shard", True),
        ("dvc exp run -f -S shard.seed=3", True),
        ("dvc experiments run --force", True),
        ("python -m dvc repro -f", True),
        ("dvc repro shard", False),
        ("dvc repro -s shard", False),
        ("dvc exp run -Sshard.format=jpg", False),
        ("dvc exp run -n fine", False),
        ("dvc checkout --force", False),
    ],
)
def test_force_is_read_from_dvcs_own_command_line(command: str, forced: bool) -> None:
    assert is_dvc(command.split())
    assert asks_to_run(command.split()) is forced


@pytest.mark.parametrize("command", ["/bin/sh -c dvc", "python -m stages.shard", "bash -c dvc repro -f"])
def test_other_programs_are_no_dvc(command: str) -> None:
    assert not is_dvc(command.split())
