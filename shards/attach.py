"""Use image shards that are at a URL: `python -m shards.attach s3://bucket/shards/SET --out artifacts/shards`.

Fetches manifest and index, and no tar: stages that read the folder fetch tars when they need them, into the cache of their node
(compute.cache_bytes). The folder has the fingerprint of the set itself, so results are those of the set on a disk.
"""

import shutil
import tempfile
from pathlib import Path

from shards.images import ImageShards
from shards.images.home import set_name
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.exact.homes import HOME, HOMED, beside
from workspace.exact.manifest import MOST_JSON_BYTES, NAME, Manifest, read_sealed, validated
from workspace.progress import say, track
from workspace.stores.addresses import is_url, refuse_wrong
from workspace.stores.opening import entry_of, fetch, read


def attach(url: str, out: Path) -> ImageShards:
    """Make a folder of the set at a URL.

    Raises:
        UserError: the folder exists, there is no such set, or the store fails.
    """
    if not is_url(url):
        raise UserError(
            f"{url} is not a URL; expected that of a set, such as s3://bucket/shards/0123456789abcdef"
        )
    refuse_wrong(url, "the URL")
    url = url.rstrip("/")
    home, _, name = url.rpartition("/")
    if out.exists():
        raise UserError(f"{out} exists; expected a new folder: move it away, or name another with --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    above = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    folder = above / "whole"
    folder.mkdir()  # by the umask; tempfile's own are closed to others
    try:
        if entry_of(f"{url}/{NAME}").size > MOST_JSON_BYTES:
            raise UserError(f"{url}/{NAME} has more than {MOST_JSON_BYTES:,} bytes")
        (folder / NAME).write_bytes(read(f"{url}/{NAME}"))
        if set_name(folder) != name:
            raise UserError(
                f"{url} holds the set {set_name(folder)}; expected one that has its name, as shards.push puts it"
            )
        (folder / HOME).write_text(f"{home}\n", encoding="utf-8")
        manifest = validated(Manifest, read_sealed(folder / NAME), f"{url}/{NAME}")
        for file, entry in track(list(beside(folder, HOMED, manifest.files).items()), url, "files"):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            fetch(f"{url}/{file}", folder / file, entry.bytes)
        ImageShards.open(folder)
        folder.rename(out)
    finally:
        shutil.rmtree(above, ignore_errors=True)
    return ImageShards.open(out)


def main() -> None:
    """The command line."""
    parser = parser_of("shards.attach", __doc__)
    parser.add_argument("url", help="the URL of the set, as shards.push printed it")
    parser.add_argument(
        "--out", type=Path, required=True, help="the folder to make, such as artifacts/shards"
    )
    asked = parser.parse_args()
    with mistakes_in_one_line():
        shards = attach(asked.url, asked.out)
    counts = ", ".join(f"{count:,} {split}" for split, count in shards.facts.counts.items())
    say(f"{asked.out}: {counts} images, their tars at {shards.home.at}")


if __name__ == "__main__":
    main()
