"""Sources and shards at URLs: what is mistyped, missing, forbidden, gone or too large, each in one line."""

import os
import re
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from unittest import mock

from shards.attach import attach
from shards.images import ImageShards
from shards.list import write_url_listing
from shards.making.sources import list_source
from shards.push import pushed
from tests.field.place import Place, pictures
from tests.field.table import Field, Row
from tests.hostile.table import World
from tests.stores import S3, Web, environment_of, one_store
from workflow.lacking import missing
from workspace.stores import opening
from workspace.stores.cache import Cache

AREA = "Data: URLs"
Outcome = Callable[[Field, Path], str]


def store() -> S3:
    return one_store()


def at_store() -> dict[str, str]:
    return environment_of(one_store())


def plain(text: str, folder: Path) -> str:
    """Without ports, folders and checksums."""
    return re.sub(
        r"127\.0\.0\.1:\d+", "HOST", World(folder).told(lambda: _raise(text)).removeprefix("refused: ")
    )


def _raise(text: str) -> None:
    raise opening.StoreError(text)


def tried(source: str, folder: Path, kind: str = "auto") -> str:
    """What a source gives: its images, or the line that refuses it."""
    with chdir(folder):
        try:
            found = list_source(kind, source, cache=Cache(folder / "cache"))  # type: ignore[arg-type]
        except ValueError as error:
            return plain(str(error), folder)
    return f"{found.kind}: {len(found.images)} images"


def source(url: str, kind: str = "auto") -> Outcome:
    return lambda field, folder: tried(url, folder, kind)


def served(path: str, kind: str = "auto", **files: str) -> Outcome:
    """A source on a web server of two classes of pictures and some texts."""

    def outcome(field: Field, folder: Path) -> str:
        web = Web(folder / "web")
        for number, name in enumerate(("cat", "dog")):
            pictures(web.folder / "photos" / name, 2, 10 * number)
        for name, text in files.items():
            (web.folder / name.replace("_", ".")).write_text(text)
        web.start()
        try:
            return tried(web.url + path, folder, kind)
        finally:
            web.stop()

    return outcome


def in_store(name: str, url: str, **environment: str) -> Outcome:
    """A source in an object store that has a bucket of this name with two classes of pictures, and one that is empty."""

    def outcome(field: Field, folder: Path) -> str:
        with mock.patch.dict(os.environ, at_store()):
            for number, cls in enumerate(("cat", "dog")):
                pictures(folder / "photos" / cls, 2, 10 * number)
            store().bucket(name, folder / "photos")
            store().bucket(f"{name}-empty")
            with mock.patch.dict(os.environ, environment):
                for key in (key for key, value in environment.items() if not value):
                    del os.environ[key]
                return tried(url, folder)

    return outcome


def without_keys(field: Field, folder: Path) -> str:
    """An S3 bucket, and no keys in the environment."""
    from s3fs import S3FileSystem

    with mock.patch.dict(os.environ, at_store() | {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(folder)}):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            del os.environ[name]
        os.environ.pop("AWS_PROFILE", None)
        S3FileSystem.clear_instance_cache()  # clients that have keys
        try:
            return tried("s3://keyless/photos", folder)
        finally:
            S3FileSystem.clear_instance_cache()


def listed(field: Field, folder: Path) -> str:
    """A URL in params.yaml before `make repro`, and the listing that it asks for."""
    with mock.patch.dict(os.environ, at_store()):
        pictures(folder / "photos" / "cat", 2)
        pictures(folder / "photos" / "dog", 2, 10)
        url = store().bucket("listed-by-make", folder / "photos")
        told = missing(f"shard: {{source: '{url}'}}", "params.yaml", "")
        count = write_url_listing(url, folder / "place" / "photos.listing")
        place = Place.of(folder / "place", "photos.listing", kind="class_folder")
        return f"{told}; {count} listed, {place.run().encoded} encoded"


def far(field: Field, folder: Path) -> str:
    """Shards at a URL, a cache that is smaller than one of their tars."""
    with mock.patch.dict(os.environ, at_store()):
        url = pushed(field.world().artifact("shards"), store().bucket("small-cache"))
        shards = ImageShards.open(attach(url, folder / "far").folder, Cache(folder / "cache", 1000))
        try:
            shards.index("train").read(0)
        except ValueError as error:
            return plain(str(error), folder)
    return "read"


def no_set(field: Field, folder: Path) -> str:
    """`shards.attach` of a folder without a set."""
    with mock.patch.dict(os.environ, at_store()):
        try:
            attach(f"{store().bucket('no-set')}/shards", folder / "far")
        except ValueError as error:
            return plain(str(error), folder)
    return "attached"


ROWS = (
    Row("a misspelt scheme is a path that does not exist", AREA, "shard.source s4://bucket/photos", "s4:// is not opened; expected s3://", source("s4://bucket/photos")),
    Row("a scheme that runs programs is opened", AREA, "shard.source ssh://host/photos", "ssh:// is not opened", source("ssh://host/photos")),
    Row("a chain of file systems is opened", AREA, "shard.source https://a::s3://b", "is a chain of file systems (::), which is refused", source("https://host/a::s3://b")),
    Row("a missing package is a traceback", AREA, "gs:// without gcsfs", "gs:// needs gcsfs: `pip install gcsfs`", source("gs://bucket/photos")),
    Row("a secret in a URL ends up in logs and dvc.lock", AREA, "s3://KEY:SECRET@bucket", "s3://…@bucket holds credentials", source("s3://KEY:SECRET@bucket/photos")),
    Row("missing credentials are a traceback of botocore", AREA, "an S3 bucket, no keys in the environment", "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", without_keys),
    Row("an empty bucket is an empty training", AREA, "s3://BUCKET without a file", "holds no files: no such folder or bucket, or an empty one", in_store("pets-a", "s3://pets-a-empty")),
    Row("a folder that a bucket does not have is an empty training", AREA, "s3://BUCKET/phtos", "s3://pets-b/phtos holds no files", in_store("pets-b", "s3://pets-b/phtos")),
    Row("a bucket that does not exist is retried for minutes", AREA, "s3://BUKCET/photos", "s3://pets-none/photos does not exist", in_store("pets-c", "s3://pets-none/photos")),
    Row("class folders in a bucket must be downloaded first", AREA, "s3://BUCKET", "class_folder: 4 images", in_store("pets-d", "s3://pets-d")),
    Row("a missing tar of a range is skipped silently", AREA, "https://HOST/{00..03}.tar, none there", "http://HOST/00.tar does not exist", served("/{00..00}.tar", "webdataset")),
    Row("a web server's page of links is taken for a table", AREA, "shard.source https://HOST/photos/", "a web server cannot list a folder; expected a list of paths", served("/photos/")),
    Row("a glob on a web server matches nothing", AREA, "https://HOST/*.tar", "a web server cannot be searched for *; name the files", served("/*.tar", "webdataset")),
    Row("pictures on a web server need a crawler", AREA, "a list of paths beside them", "class_folder: 4 images", served("/paths.txt", paths_txt="photos/cat/000.png\nphotos/cat/001.png\nphotos/dog/010.png\nphotos/dog/011.png\n")),
    Row("a list on a server makes this machine fetch from other hosts", AREA, "a list with https://other/…", "paths must be relative to", served("/paths.txt", "folder", paths_txt="https://other.example/a.png\nhttps://other.example/b.png\n")),
    Row("a list on a server reads this machine's files", AREA, "a list with ../../a.png", "which is outside it: refused", served("/paths.txt", "folder", paths_txt="../../a.png\n../../b.png\n")),
    Row("DVC ends with its own error for a URL in params.yaml", AREA, "shard.source s3://…, make repro", "python -m shards.list s3://listed-by-make --out data/listed-by-make-39f03e63.listing`, and write `source: data/listed-by-make-39f03e63.listing` there; 4 listed, 4 encoded", listed),
    Row("a cache smaller than a tar is filled for ever", AREA, "compute.cache_bytes 1000", "compute.cache_bytes is 1,000, and s3://small-cache/", far),
    Row("a URL without a set gives a half-made folder", AREA, "shards.attach s3://BUCKET/shards", "s3://no-set/shards/manifest.json does not exist", no_set),
)  # fmt: skip
