"""List a folder's images once, for millions of files: `python -m shards.list FOLDER --out LISTING`.

The first line is `# root: ` and the folder's absolute path. Each other line has a path relative to it, the file's size in
bytes and its modification time in nanoseconds, separated by tabs. `shard.source` may name a listing instead of its folder.
DVC watches only the listing: write it again when images change, and `dvc repro` notices.
"""

import argparse
from pathlib import Path

from shards.layouts.formats import told_passed_over
from shards.layouts.walking import ROOT, walk
from shards.making.sources import list_source
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import atomic_path
from workspace.progress import say


def write_listing(folder: Path, out: Path) -> int:
    """List the images below a folder, sorted; returns their number.

    Raises:
        UserError: no such folder, no images in it, or a name with a tab or line break.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; expected a folder of images")
    root = folder.resolve()
    files = walk(root)
    names = files.names
    if not names:
        list_source("folder", str(folder))
    torn = next((name for name in [str(root), *names] if any(mark in name for mark in "\t\r\n")), None)
    if torn is not None:
        raise UserError(
            f"{folder}: the name {torn!r} has a tab or line break, which a listing cannot hold: rename it"
        )
    rows = [f"{name}\t{_stamp(root / name)}\n" for name in names]
    with atomic_path(out) as temporary:
        temporary.write_text(f"{ROOT}{root}\n" + "".join(rows), encoding="utf-8", errors="surrogateescape")
    if told := told_passed_over(files.passed_over()):
        say(told)
    return len(rows)


def _stamp(path: Path) -> str:
    """A file's size and modification time; zeros for a broken link, which `shard` then reports as missing."""
    if not path.is_file():
        return "0\t0"
    found = path.stat()
    return f"{found.st_size}\t{found.st_mtime_ns}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m shards.list", description=__doc__)
    parser.add_argument("folder", type=Path, help="the images' folder")
    parser.add_argument("--out", type=Path, required=True, help="the listing to write")
    asked = parser.parse_args()
    with mistakes_in_one_line():
        count = write_listing(asked.folder, asked.out)
    say(f"{asked.out}: {count:,} images of {asked.folder}")


if __name__ == "__main__":
    main()
