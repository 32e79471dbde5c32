"""Put finished image shards at a URL, for other machines: `python -m shards.push artifacts/shards s3://bucket/shards`.

They are there as s3://bucket/shards/SET, SET being the first digits of the manifest's SHA-256; `python -m shards.attach` makes a
small folder of it that every stage reads. A push that was stopped continues with the same command. Credentials come from the
environment. `shard.home: s3://bucket/shards` does the same within the stage, and keeps no tars beside the manifest.
"""

from pathlib import Path

from shards.images import ImageShards
from shards.making.pushing import push
from workspace.commands import parser_of
from workspace.errors import UserError, mistakes_in_one_line
from workspace.progress import say
from workspace.stores.addresses import is_url, refuse_unwritable


def pushed(folder: Path, url: str, again: bool = False) -> str:
    """Put the set in a folder below a URL; returns the URL of the set.

    Raises:
        UserError: no such set, a URL at which nothing can be put, a changed file, or a store that fails.
    """
    if not is_url(url):
        raise UserError(f"{url} is not a URL; expected one such as s3://bucket/shards (a folder: shard.home)")
    refuse_unwritable(url, "the URL")
    shards = ImageShards.open(folder)
    return push(folder, shards.manifest, url, shards.home.tar, again)


def main() -> None:
    """The command line."""
    parser = parser_of("shards.push", __doc__)
    parser.add_argument("folder", type=Path, help="image shards, such as artifacts/shards")
    parser.add_argument("url", help="where to: s3://bucket/shards")
    parser.add_argument(
        "--again", action="store_true", help="also put files that are there with the right size"
    )
    asked = parser.parse_args()
    with mistakes_in_one_line():
        url = pushed(asked.folder, asked.url, asked.again)
    say(f"{url}: on another machine, `python -m shards.attach {url} --out artifacts/shards`")


if __name__ == "__main__":
    main()
