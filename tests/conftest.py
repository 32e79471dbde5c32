"""What all tests share: nothing of the user's own is read, quiet hypothesis, one torch thread, the repository's root."""

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.committed import ROOT, forbid_reading_the_users_files
from tests.cpu import Meter, rank

for name in list(os.environ):
    if name.startswith(("GIT_", "DVC_", "RAY_ADDRESS", "PREFECT_API")):
        del os.environ[name]  # the user's: a git hook's GIT_DIR, a cluster, another Prefect server
os.environ["GIT_CONFIG_GLOBAL"] = os.devnull  # the user's may sign commits, or run hooks
for name in (
    "GLOBAL",
    "SYSTEM",
):  # the user's may have a remote, and without one each command outside of this repository
    os.environ[f"DVC_{name}_CONFIG_DIR"] = str(
        ROOT / "tests" / "config"
    )  # starts a second process, to tell of it
os.environ["PYTHONPATH"] = str(ROOT)  # of processes that tests start: they do not start in the root
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Set before NumPy is imported: its BLAS has a thread per core in each of pytest's processes, and where they have to share the
# cores these wait for one another in a loop (eigenvalues of 2,048 features: 11.4 CPU seconds beside other work, 2.2 with one).
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # the same of PyTorch's, where a test has several
if not Path("/dev/nvidiactl").exists():  # Triton looks when it is first imported, by whichever test that is
    os.environ["TRITON_INTERPRET"] = "1"
# `nohup make test &` ignores Ctrl-C, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile(
    "project", deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")
forbid_reading_the_users_files()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cpu", action="store_true", help="list the test files that cost most CPU seconds")


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # imports and the collection of tests leave no garbage, and looking among them would take a second or two
    if config.getoption("--cpu"):
        config.pluginmanager.register(Meter())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=rank)


def pytest_collection_finish() -> None:
    gc.freeze()  # half a million objects that stay: each full look among them took 0.4 CPU seconds, 5 % of a worker's
    gc.enable()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # else Triton's binding writes pages about what is left at the end


@pytest.fixture(scope="session", autouse=True)
def _away_from_the_users_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests run in an empty folder, so that no relative path leads into the working tree."""
    folder = tmp_path_factory.mktemp("elsewhere")
    folder.chmod(0o755)  # a test that becomes another user comes back here
    with chdir(folder):
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root: code, docs and tests. What is the user's is read from the commit (tests/committed.py)."""
    return ROOT


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
