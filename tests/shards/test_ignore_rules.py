"""Data under DVC's and Git's ignore rules, with the real programs, at the place that README and presets name."""

import shutil
import subprocess
from pathlib import Path

from tests.field.place import pictures
from tests.tiny import run
from tests.typed import typed

ROOT = Path(__file__).resolve().parents[2]


def test_dvc_add_and_import_work_where_presets_look_for_data(tmp_path: Path) -> None:
    for name in ("theirs", "ours"):
        place = tmp_path / name
        (place / ".dvc").mkdir(parents=True)
        (place / "data").mkdir()  # as in a clone: data/.gitignore is tracked
        (place / "data" / ".gitignore").write_text("")
        for file in (".gitignore", ".dvcignore"):
            shutil.copyfile(ROOT / file, place / file)
        (place / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
        subprocess.run(["git", "init", "-q", str(place)], check=True)
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    pictures(theirs / "data" / "mine", 2)
    typed(theirs, "dvc", "add", "data/mine")
    run(theirs, "git", "add", "-A")
    run(theirs, "git", "commit", "-qm", "data")
    typed(ours, "dvc", "import", str(theirs), "data/mine", "-o", "data/mine")
    assert len(list((ours / "data" / "mine").glob("*.png"))) == 2
    for place in (theirs, ours):
        run(place, "git", "add", "-A")
        tracked = run(place, "git", "ls-files", "data").split()
        assert "data/mine.dvc" in tracked and not [name for name in tracked if name.endswith(".png")]
