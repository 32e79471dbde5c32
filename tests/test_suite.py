"""Laws of how the suite runs: its order, what it costs, and which of its files are tried under load."""

import subprocess
import sys
from pathlib import Path

from tests.committed import ROOT
from tests.cpu import DEAREST
from tests.load import watching
from tests.waiting import matching, until

SPENDING = """
import subprocess, sys, time
def test_here():
    began = time.process_time()
    while time.process_time() - began < 0.4: pass
def test_in_a_child():
    code = "import time\\nwhile time.process_time() < 0.6: pass"
    subprocess.run([sys.executable, "-c", code], check=True)
"""


def test_the_files_that_come_first_are_there() -> None:
    assert [name for name in DEAREST if not (ROOT / name).is_file()] == [] and len(set(DEAREST)) == len(
        DEAREST
    )


def test_the_files_that_watch_other_processes_are_found_by_what_they_use() -> None:
    found = watching()
    for name in (
        "test_workflow.py",
        "hostile/test_hostile.py",
        "pipelines/test_view.py",
        "chaos/test_chaos.py",
        "pipelines/test_dashboard.py",
        "reporting/test_marking_in_a_browser.py",  # by a fixture
        "reporting/test_page_in_a_browser.py",
    ):
        assert f"tests/{name}" in found
    assert not {"tests/test_readme.py", "tests/reporting/test_figures.py"} & set(found)


def test_a_files_seconds_are_its_own_and_its_childrens(tmp_path: Path) -> None:
    (tmp_path / "test_spending.py").write_text(SPENDING)
    plugin = "import pytest\nfrom tests.cpu import Meter\ndef pytest_configure(config): config.pluginmanager.register(Meter())\n"
    (tmp_path / "conftest.py").write_text(plugin)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_spending.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    [line] = [line for line in done.stdout.splitlines() if line.endswith("test_spending.py")]
    assert 0.9 < float(line.split()[0]) < 10


def test_a_look_at_folders_that_go_meanwhile_does_not_raise(tmp_path: Path) -> None:
    """A process makes and removes them as fast as it can."""
    code = (
        "import os, sys\nwhile True:\n    os.makedirs(f'{sys.argv[1]}/run/work/step-1', exist_ok=True)\n"
        "    for part in ('/work/step-1', '/work', ''): os.rmdir(f'{sys.argv[1]}/run{part}')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    try:
        until(lambda: matching(tmp_path, "*/work/step-*"), 60, every=0)
        looks = [matching(tmp_path, "*/work/step-*") for _ in range(500)]
    finally:
        process.kill()
        process.wait()
    assert all(len(look) <= 1 for look in looks)
