"""An empty database of Prefect's server, made once for all of pytest's workers: the tables of a new one cost 7 CPU seconds.

A workspace's first flow makes its own in tests/test_workflow.py.
"""

import shutil
from pathlib import Path

import pytest

from tests.tiny import run, shared_by_all_workers

DATABASE = "prefect.db"


def copy_of_the_database(factory: pytest.TempPathFactory, to: Path) -> None:
    """Put it at a path, whose folder is made."""
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(shared_by_all_workers(factory, "prefect-home", _make) / DATABASE, to)


def _make(home: Path) -> None:
    home.mkdir()
    more = {
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_API_URL": "",
        "DO_NOT_TRACK": "1",
    }
    run(home, "prefect", "server", "database", "upgrade", "--yes", more=more)
