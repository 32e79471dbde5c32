"""List a folder's images once, for millions of files or for a URL: `python -m shards.list FOLDER --out LISTING`.

The first line is `# root: ` and the folder's absolute path. Each other line has a path relative to it, the file's size in
bytes and its modification time in nanoseconds, separated by tabs. `shard.source` may name a listing instead of its folder.
DVC watches only the listing: write it again when images change, and `dvc repro` notices.

Of a URL (s3://bucket/photos, https://host/{000..099}.tar) the listing holds every file, with the sign of its version that the
store gives (an ETag) in place of the time. A listing that finds nothing new is not written again.
"""

from collections.abc import Mapping
from pathlib import Path

from shards.layouts.formats import told_passed_over
from shards.layouts.remote import listing_for, remote_of
from shards.layouts.walking import ROOT, walk
from shards.making.sources import list_source
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.manifest import atomic_path
from workspace.progress import say
from workspace.stores.addresses import is_url, local_path


def write_listing(folder: Path, out: Path) -> int:
    """List the images below a folder, sorted; returns their number.

    Raises:
        UserError: no such folder, no images in it, or a name with a tab or line break.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; expected a folder of images")
    _check_out(out)
    root = folder.resolve()
    files = walk(root)
    names = files.names
    if not names:
        list_source("folder", str(folder))
    _write(out, str(root), {name: _stamp(root / name) for name in names})
    if told := told_passed_over(files.passed_over()):
        say(told)
    return len(names)


def write_url_listing(url: str, out: Path) -> int:
    """List the files below a URL; returns their number.

    Raises:
        UserError: a wrong URL, nothing is there, or the store fails.
    """
    _check_out(out)
    remote = remote_of(url)
    assert remote is not None, url
    if remote.query:
        raise UserError(
            f"{url} has a query, which a listing cannot hold: name the URL itself as shard.source"
        )
    _write(out, remote.root, {name: f"{entry.size}\t{entry.stamp}" for name, entry in remote.files.items()})
    return len(remote.files)


def listing_made(url: str) -> str:
    """What `shard.source` should be for a URL, where DVC runs the stage: a listing, written now; the path of a file:// URL."""
    path = local_path(url)
    if path is not None:
        return str(path)
    listing = listing_for(url)
    say(f"{listing}: {write_url_listing(url, Path(listing)):,} files of {url}")
    return listing


def _check_out(out: Path) -> None:
    """UserError where something else than a listing would be replaced."""
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; expected a file, such as {out / 'images.listing'}")
    if out.is_file():
        with out.open("rb") as file:
            if file.read(len(ROOT)) != ROOT.encode():
                raise UserError(
                    f"--out {out} was not written by this command, and would be replaced; expected a new file, as data/x.listing"
                )


def _write(out: Path, root: str, stamps: Mapping[str, str]) -> None:
    """Write a listing, unless it is there with the same content: DVC would hash it, and a run's fingerprint has its time."""
    torn = next((name for name in [root, *stamps] if any(mark in name for mark in "\t\r\n")), None)
    if torn is not None:
        raise UserError(
            f"{root}: the name {torn!r} has a tab or line break, which a listing cannot hold: rename it"
        )
    rows = [f"{name}\t{stamp}\n" for name, stamp in stamps.items()]
    made = (f"{ROOT}{root}\n" + "".join(rows)).encode(errors="surrogateescape")
    if not out.is_file() or out.read_bytes() != made:
        with atomic_path(out) as temporary:
            temporary.write_bytes(made)


def _stamp(path: Path) -> str:
    """A file's size and modification time; zeros for a broken link, which `shard` then reports as missing."""
    if not path.is_file():
        return "0\t0"
    found = path.stat()
    return f"{found.st_size}\t{found.st_mtime_ns}"


def main() -> None:
    """The command line."""
    parser = parser_of("shards.list", __doc__)
    parser.add_argument("folder", help="the images' folder, or a URL: s3://bucket/photos")
    parser.add_argument("--out", type=Path, required=True, help="the listing to write")
    asked = parser.parse_args()
    with mistakes_in_one_line():
        path = local_path(asked.folder) if is_url(asked.folder) else Path(asked.folder)
        if path is None:
            say(f"{asked.out}: {write_url_listing(asked.folder, asked.out):,} files of {asked.folder}")
            return
        count = write_listing(path, asked.out)
    say(f"{asked.out}: {count:,} images of {asked.folder}")


if __name__ == "__main__":
    main()
