"""The GPU kit: phases that fail, crash, hang or will not end, its time limit, and a rehearsal of a packed folder on a CPU."""

import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.gpu.__main__ import UNTIL
from benchmarks.gpu.bundle import MOST_BYTES, bundle
from benchmarks.gpu.notes import Notes, keep_json
from benchmarks.gpu.pack import MIB, Images, pack, size_of
from benchmarks.gpu.watching import AGAIN, Kit, Phase
from tests.waiting import slowness, until
from workspace.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
ABSENT = (
    "ray",
    "dvc",
    "prefect",
    "dvclive",
    "cleanfid",
    "torchvision",
    "lpips",
    "hypothesis",
    "pytest",
)
"""What the machine that the kit is for does not have, and what only tests have. (It gets pydantic and webdataset as wheels.)"""

PROGRAM = """
import os, signal, subprocess, sys, time
from pathlib import Path
from benchmarks.gpu.notes import Notes
notes, out = Notes(Path(sys.argv[1]), sys.argv[2]), Path(sys.argv[1])
for item in sys.argv[3].split():
    if notes.has(item):
        continue
    notes.begin(item, 1.0 if item == "hangs" else 600.0)
    if item == "hangs":
        time.sleep(600)
    if item == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "asks":
        notes.end(item, {"error": "a CUDA error"}, ok=False)
        sys.exit(75)
    if item == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", deaf])
        (out / "child.txt").write_text(str(child.pid))
        time.sleep(600)
    notes.end(item, {"made": item})
if "raises" in sys.argv[3]:
    raise RuntimeError("before any item")
"""


def kit_of(folder: Path, seconds: float) -> Kit:
    """A kit that starts now."""
    for name in ("out", "work"):
        (folder / name).mkdir()
    (folder / "program.py").write_text(PROGRAM)
    return Kit(folder / "out", folder / "work", time.time(), seconds, os.environ | {"PYTHONPATH": str(ROOT)})


def phase_of(kit: Kit, name: str, until: float, items: str, beside: Sequence[Sequence[str]] = ()) -> Phase:
    """One whose items behave as they are called."""
    program = str(kit.out.parent / "program.py")
    return Phase(name, until, [sys.executable, program, str(kit.out), name, items], beside)


def read(kit: Kit, name: str) -> dict[str, Any]:
    """A phase's items."""
    items: dict[str, Any] = Notes(kit.out, name).read()["items"]
    return items


def test_items_that_crash_hang_or_ask_for_it_cost_themselves_and_no_other(tmp_path: Path) -> None:
    kit = kit_of(tmp_path, 60 * slowness())
    told = kit.run([phase_of(kit, "one", 0.5, "a crashes b hangs c asks d"), phase_of(kit, "two", 1.0, "e")])
    items = read(kit, "one")
    assert [name for name, found in items.items() if found["ok"]] == ["a", "b", "c", "d"]
    assert "ended with status -11" in items["crashes"]["error"]
    assert (
        items["hangs"]["error"] == "it took longer than its limit"
        and items["asks"]["error"] == "a CUDA error"
    )
    assert told[0]["starts"] == 4 and told[0]["failed"] == ["crashes", "hangs", "asks"]
    assert read(kit, "two")["e"]["ok"] and AGAIN == 75


def test_a_phase_that_fails_before_any_item_is_noted_with_what_it_said(tmp_path: Path) -> None:
    kit = kit_of(tmp_path, 60 * slowness())
    kit.run([phase_of(kit, "one", 0.5, "raises"), phase_of(kit, "two", 1.0, "e")])
    found = read(kit, "one")
    assert found["raises"]["ok"] and "RuntimeError: before any item" in found["start"]["error"]
    assert read(kit, "two")["e"]["ok"]


def test_a_phase_that_will_not_end_is_ended_with_all_that_it_started_and_what_it_noted_stays(
    tmp_path: Path,
) -> None:
    limit = 15 * slowness()  # of which a process needs some to start
    kit = kit_of(tmp_path, limit)
    helper = [sys.executable, "-c", "import time; time.sleep(600)"]
    began = time.time()
    told = kit.run([phase_of(kit, "one", 0.4, "a stubborn b", [helper]), phase_of(kit, "two", 1.0, "e")])
    assert time.time() - began < limit + 10 * slowness()
    items = read(kit, "one")
    assert items["a"]["ok"] and items["stubborn"]["error"] == "its phase's time was up" and "b" not in items
    assert told[0]["starts"] == 1 and read(kit, "two")["e"]["ok"]
    child = int((kit.out / "child.txt").read_text())
    until(lambda: ended(child), 10)


def ended(pid: int) -> bool:
    """Whether a process is gone, or waits to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_notes_are_whole_at_any_moment_and_hold_what_json_cannot(tmp_path: Path) -> None:
    keep_json(tmp_path / "a.json", {"nan": float("nan"), "path": Path("x"), "rows": [(1, 2.5)], 3: None})
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "nan": "nan",
        "path": "x",
        "rows": [[1, 2.5]],
        "3": None,
    }
    notes = Notes(tmp_path, "phase")
    assert notes.interrupted("never begun") is None and not notes.overdue()
    notes.begin("item", 0.0)
    notes.keep("item", {"so far": 1})
    assert notes.overdue() and notes.interrupted("cut") == "item"
    assert notes.read()["items"]["item"] | {"seconds": 0} == {
        "ok": False,
        "so far": 1,
        "error": "cut",
        "seconds": 0,
    }


def test_the_bundle_holds_the_first_pictures_that_fit_and_the_end_of_the_log(tmp_path: Path) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    out.mkdir()
    for name, size in (("a.png", MOST_BYTES - 100), ("b.png", 200), ("c.png", 50)):
        (pictures / name).write_bytes(bytes(size))
    (out / "log.txt").write_bytes(b"x" * MOST_BYTES + b"the end")
    (out / ".speed.json.77").write_text("torn")
    bundle(pictures, out)
    assert zipfile.ZipFile(out / "pictures.zip").namelist() == ["a.png", "c.png"]
    log = (out / "log.txt").read_bytes()
    assert len(log) == MOST_BYTES and log.endswith(b"the end")
    assert sorted(path.name for path in out.iterdir()) == ["log.txt", "pictures.zip"]


def photographs(folder: Path, size: int = 64) -> Path:
    """Small pictures in two class folders."""
    generator = np.random.default_rng(0)
    for number in range(48):
        path = folder / ("left", "right")[number % 2] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(256, size=(size, size, 3)).astype(np.uint8)).save(path)
    return folder


BLOCK = f"""
import sys
from importlib.machinery import PathFinder
absent = {ABSENT!r}
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in absent else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""


@pytest.mark.timeout(1200)
def test_a_packed_folder_runs_every_phase_where_packages_are_absent_and_one_fails_on_purpose(
    tmp_path: Path,
) -> None:
    images = [Images("faces", photographs(tmp_path / "faces"))]
    packed = tmp_path / "packed"
    pack(packed, images, (64,), None, "3.12", (), 20 * MIB)
    assert size_of(packed) < 20 * MIB
    (tmp_path / "block").mkdir()
    (tmp_path / "block" / "sitecustomize.py").write_text(BLOCK)
    command = [
        "bash",
        str(packed / "run.sh"),
        "18",
        str(tmp_path / "results"),
        "--device",
        "cpu",
        "--tiny",
        "--fail",
        "speed",
    ]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHON": sys.executable,
        "PYTHONPATH": str(tmp_path / "block"),
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1190, check=False
    )
    out = tmp_path / "results"
    assert done.returncode == 0, done.stderr[-3000:]
    names = {f"{name}.json" for name in UNTIL} | {"run.json", "log.txt", "pictures.zip"}
    assert {path.name for path in out.iterdir()} == names and len(names) <= 8
    failed = {
        phase["phase"]: phase["failed"] for phase in json.loads((out / "run.json").read_text())["phases"]
    }
    assert failed == {name: (["sampling_batch_64"] if name == "speed" else []) for name in UNTIL}
    items = {name: json.loads((out / f"{name}.json").read_text())["items"] for name in UNTIL}
    assert "failed on purpose" in items["speed"]["sampling_batch_64"]["error"]
    assert items["speed"]["sampling_batch_1"]["times_the_floor"] > 0
    assert items["machine"]["versions"]["commit"] == (packed / "code" / "COMMIT").read_text().strip()
    for name in ("table6", "table7"):
        assert "| 50 %, adaptive" in items["science"]["tables"]["table6"]["markdown"], name
        assert items["science"]["tables"][name]["table"]["seeds"] == [0]
    assert items["showcase"]["portraits"]["models"]["faces-64"]["status"] == 0
    pictures = zipfile.ZipFile(out / "pictures.zip").namelist()
    assert "showcase-faces-64-samples.png" in pictures and "table-adaptive-50-reconstructions.png" in pictures


def test_a_pack_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is there already: remove it"):
        pack(tmp_path, [], (), None, "3.12", (), MIB)
    with pytest.raises(UserError, match=r"has \d+\.\d MiB, more than 0: pack less, or raise --mib"):
        pack(tmp_path / "packed", [], (), None, "3.12", (), 1000)
