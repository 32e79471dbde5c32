"""The tests that watch other processes, again and again beside busy ones: says how many times each file passed.

python -m tests.load                                      every such file, ten times, beside eight busy processes
python -m tests.load --times 3 tests/pipelines/test_view.py      some, fewer times
python -m tests.load --at-once 5                          five copies of a file together, which are most of the load
python -m tests.load "tests/a.py tests/b.py"              two files in one pytest

What all tests only read (the finished repository, the small world) is made once, in a folder that the copies share; with
--shared FOLDER also for later calls, as long as the code stays the same.
"""

import argparse
import ast
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.committed import ROOT
from workspace.progress import say

WATCHING = ("monotonic", "subprocess.Popen", "get_context", "import threading", "playwright")
"""What a test file has that watches what another process makes or removes, or a browser shows."""
SHARED = "MQVAE_TESTS_SHARED"
"""Environment variable: the folder of what the tests of several runs only read (tests/tiny.py)."""
EVERYONES = {"tests.load", "tests.tiny", "tests.cpu"}


def watching() -> list[str]:
    """The test files that do, by themselves, by what they import of tests/, or by a fixture of their folder."""
    paths = sorted((ROOT / "tests").rglob("*.py"))
    texts = {module_of(path): path.read_text(encoding="utf-8") for path in paths}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    fixtures = {
        name.rpartition(".")[0]: watching_fixtures(tree)
        for name, tree in trees.items()
        if name.endswith(".conftest")
    }
    does = {name for name, text in texts.items() if any(word in text for word in WATCHING)}
    does |= {
        name for name, tree in trees.items() if taken(tree) & fixtures.get(name.rpartition(".")[0], set())
    }
    does -= EVERYONES
    needs = {name: imported(tree) for name, tree in trees.items()}
    while more := {name for name in needs if needs[name] & does} - does - EVERYONES:
        does |= more
    return sorted(
        name.replace(".", "/") + ".py" for name in does if name.rpartition(".")[2].startswith("test_")
    )


def watching_fixtures(conftest: ast.Module) -> set[str]:
    """Functions of a conftest.py that watch, by themselves or by another that they take."""
    made = {node.name: node for node in conftest.body if isinstance(node, ast.FunctionDef)}
    does = {name for name, node in made.items() if any(word in ast.unparse(node) for word in WATCHING)}
    while more := {name for name, node in made.items() if taken(node) & does} - does:
        does |= more
    return does


def taken(tree: ast.AST) -> set[str]:
    """Names of all arguments of a file's functions, fixtures among them."""
    return {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}


def module_of(path: Path) -> str:
    """The name that a file is imported by."""
    return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")


def imported(tree: ast.AST) -> set[str]:
    """Modules that a file imports; `from a import b` gives a and a.b."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def busy(until: float) -> None:
    """Keep one processor at work until a moment of the clock, or until nobody waits for it."""
    parent = os.getppid()
    while time.time() < until and os.getppid() == parent:
        sum(range(20_000))


@contextmanager
def load(processes: int, seconds: float) -> Iterator[None]:
    """So many busy processes meanwhile; they end by themselves."""
    fork = multiprocessing.get_context("fork")
    running = [
        fork.Process(target=busy, args=(time.time() + seconds,), daemon=True) for _ in range(processes)
    ]
    for process in running:
        process.start()
    try:
        yield
    finally:
        for process in running:
            process.terminate()


def passed(file: str, copies: int) -> int:
    """How many of so many runs of a file's tests, all at once, pass now; what the others said last is said."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", *file.split()]
    running = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(copies)
    ]
    with ThreadPoolExecutor(copies) as threads:
        said = list(threads.map(lambda process: process.communicate()[0], running))
    for process, text in zip(running, said, strict=True):
        if process.returncode:
            say(text[-3000:])
    return sum(process.returncode == 0 for process in running)


def tried(files: Sequence[str], times: int, copies: int, processes: int, seconds: float) -> dict[str, int]:
    """File → how many times it passed."""
    counts = dict.fromkeys(files, 0)
    for done in range(0, times, copies):
        for file in files:
            now = min(copies, times - done)
            with load(max(0, processes - now), seconds):
                counts[file] += passed(file, now)
            say(f"{counts[file]} of {done + now}  {file}")
    return counts


def main() -> None:
    """Exit status 1 where a file failed once."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--at-once", type=int, default=1, help="copies of a file that run together")
    parser.add_argument("--load", type=int, default=8, help="busy processes, the copies among them")
    parser.add_argument("--seconds", type=float, default=1800.0, help="that they live at most")
    parser.add_argument(
        "--shared", type=Path, help="a folder for what tests only read; none: it goes at the end"
    )
    parser.add_argument("files", nargs="*", help="none means all that watch other processes")
    asked = parser.parse_args()
    files = asked.files or watching()
    with TemporaryDirectory(prefix="load-") as folder:
        shared = asked.shared or Path(folder)
        shared.mkdir(parents=True, exist_ok=True)
        os.environ[SHARED] = str(shared.resolve())
        counts = tried(files, asked.times, asked.at_once, asked.load, asked.seconds)
    for file, count in counts.items():
        say(f"{count:3d} of {asked.times}  {file}")
    sys.exit(int(min(counts.values()) < asked.times))


if __name__ == "__main__":
    main()
