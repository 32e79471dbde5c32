"""A source at a URL is read as from a path: the same images, the same bytes of shards, and a store that fails is waited for."""

import io
import shutil
import socket
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import pytest

from shards.layouts import remote
from shards.layouts.listed import Source
from shards.list import write_url_listing
from shards.making.sources import list_source
from tests.field.place import Place, pictures, write
from tests.stores import S3, Web, away
from tests.stores import s3 as s3
from tests.stores import web as web
from tests.waiting import slowness
from workspace.errors import UserError
from workspace.stores import addresses, opening
from workspace.stores.cache import Cache, Wanted

PETS = ("cat", "dog")


def lay(folder: Path) -> Path:
    """Two classes of four pictures, as a folder, tars, a zip, a list and a table."""
    for number, name in enumerate(PETS):
        pictures(folder / "photos" / name, 4, 10 * number)
    names = sorted(path.relative_to(folder).as_posix() for path in (folder / "photos").rglob("*.png"))
    for number in range(2):
        with tarfile.open(folder / f"part-{number:02d}.tar", "w") as tar:
            for name in names[number::2]:
                cls = name.split("/")[1]
                for member, data in (
                    (f"{cls}-{Path(name).name}", (folder / name).read_bytes()),
                    (f"{cls}-{Path(name).stem}.cls", str(PETS.index(cls)).encode()),
                ):
                    info = tarfile.TarInfo(member)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    shutil.copy(folder / "part-00.tar", folder / "one.tar")
    write(folder / "classes.txt", b"cat\ndog\n")
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for name in names:
            archive.write(folder / name, name)
    write(folder / "paths.txt", "\n".join(names).encode())
    rows = [f"{name},{name.split('/')[1]},a {name.split('/')[1]}" for name in names]
    write(folder / "labels.csv", "\n".join(["file,label,caption", *rows]).encode())
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def content(source: Source) -> list[tuple[Any, ...]]:
    """All that shards are made of."""
    return [
        (image.name, image.split, image.cls, image.captions, image.data.read()) for image in source.images
    ] + [source.classes, sorted(source.passed_over.items())]


HTTP = {
    "one tar": ("webdataset", "/one.tar", "one.tar"),
    "a range of tars": ("webdataset", "/part-{00..01}.tar", "part-{00..01}.tar"),
    "a zip": ("auto", "/photos.zip", "photos.zip"),
    "a list": ("class_folder", "/paths.txt", "paths.txt"),
    "a table": ("metadata", "/labels.csv", "labels.csv"),
}


@pytest.mark.parametrize(("kind", "url", "path"), HTTP.values(), ids=HTTP.keys())
def test_a_web_servers_files_give_what_the_same_files_on_disk_give(
    kind: Any, url: str, path: str, web: Web, cache: Cache
) -> None:
    lay(web.folder)
    there, here = list_source(kind, web.url + url, cache=cache), list_source(kind, str(web.folder / path))
    if path.endswith("}.tar"):  # class names beside tars are found by listing, and a web server has none
        assert there.classes == ("0000", "0001") and here.classes == PETS
        assert content(there)[:-2] == content(here)[:-2]
    else:
        assert (
            content(there) == content(here)
            if "one" not in path
            else content(there)[:-2] == content(here)[:-2]
        )


def test_an_object_stores_folder_globs_and_listings_give_what_the_same_files_on_disk_give(
    s3: S3, tmp_path: Path, cache: Cache
) -> None:
    folder = lay(tmp_path / "all")
    url = s3.bucket("every-layout", folder)
    write_url_listing(f"{url}/photos", tmp_path / "photos.listing")
    for kind, there, here in (
        ("auto", f"{url}/photos", folder / "photos"),
        ("class_folder", f"{url}/photos/", folder / "photos"),
        ("auto", str(tmp_path / "photos.listing"), folder / "photos"),
        ("auto", f"{url}/photos.zip", folder / "photos.zip"),
        ("metadata", f"{url}/labels.csv", folder / "labels.csv"),
        ("auto", (folder / "photos").as_uri(), folder / "photos"),
    ):
        assert content(list_source(kind, there, cache=cache)) == content(list_source(kind, str(here))), there
    shutil.rmtree(folder / "photos")
    s3.files().rm("every-layout/photos", recursive=True)
    remote._listed.cache_clear()
    for there, here in ((f"{url}/part-*.tar", folder / "part-*.tar"), (f"{url}/one.tar", folder / "one.tar")):
        assert (
            content(list_source("auto", there, cache=cache))[:-2]
            == content(list_source("auto", str(here)))[:-2]
        )
    whole = list_source("webdataset", url, cache=cache)
    assert content(whole) == content(list_source("webdataset", str(folder)))


def test_a_member_is_read_by_range_once_its_tar_has_left_the_cache(s3: S3, web: Web, cache: Cache) -> None:
    folder = lay(web.folder)
    for url in (s3.bucket("ranges", folder), web.url):  # the second sends the whole file
        found = list_source("webdataset", f"{url}/part-{{00..01}}.tar", cache=cache)
        expected = [image.data.read() for image in found.images]
        shutil.rmtree(cache.folder)
        assert [image.data.read() for image in found.images] == expected


def shards_of(place: Place) -> dict[str, bytes]:
    """Every file of the artifact."""
    out = place.root / "artifacts" / "shards"
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_shards_are_the_same_bytes_from_a_path_and_from_a_store_that_is_down_for_a_while(
    s3: S3, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lay(web.folder)
    url = s3.bucket("same-bytes", folder / "photos")
    here = Place.of(tmp_path / "here", folder / "photos", kind="class_folder")
    there = Place.of(tmp_path / "there", url, kind="class_folder")
    here.run()
    ran = _while_down(s3, there.run, monkeypatch)
    assert "tried again for up to" in ran.said, ran.said
    assert shards_of(there) == shards_of(here)
    tars = Place.of(tmp_path / "tars", folder / "part-{00..01}.tar", kind="webdataset")
    far = Place.of(tmp_path / "far", f"{web.url}/part-{{00..01}}.tar", kind="webdataset")
    (folder / "classes.txt").unlink()
    tars.run()
    assert "tried again for up to" in _while_down(web, far.run, monkeypatch).said
    assert shards_of(far) == shards_of(tars)


def _while_down(store: S3 | Web, run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the stage; after its first answer the store is down until it was asked in vain, however long that takes."""
    back, missed, reads, says, lock = list[Thread](), Event(), opening._patiently, opening.say, Lock()

    def said(text: str) -> None:
        says(text)
        if "tried again for up to" in text:
            missed.set()

    def start_again() -> None:
        missed.wait(60 * slowness())
        store.start()

    def first_answer_is_the_last(url: str, work: Any) -> Any:
        found = reads(url, work)
        with lock:  # several files are asked for at once
            if not back:
                store.stop()
                back.append(Thread(target=start_again))
                back[0].start()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(opening, "_patiently", first_answer_is_the_last)
        patch.setattr(opening, "say", said)
        ran = run()
    back[0].join()
    return ran


def test_a_web_server_that_is_down_is_not_taken_for_one_without_the_file(web: Web) -> None:
    """fsspec's client says of both that the file is not there."""
    (web.folder / "here.tar").write_bytes(b"a tar")
    back = away(web, 0.5)
    assert opening.entry_of(f"{web.url}/here.tar").size == 5
    back.join()
    with pytest.raises(opening.MissingError, match=r"nowhere\.tar does not exist"):
        opening.entry_of(f"{web.url}/nowhere.tar")


def test_what_changes_at_a_url_is_another_run_and_what_does_not_is_the_same(s3: S3, tmp_path: Path) -> None:
    folder = lay(tmp_path / "all")
    url = s3.bucket("changes", folder / "photos")
    place = Place.of(tmp_path / "place", url, kind="class_folder")
    first = place.run()
    assert (first.encoded, place.run().encoded) == (8, 0)
    s3.files().put_file(str(folder / "photos/dog/010.png"), "changes/dog/014.png")
    assert place.run().encoded == 1  # the others are taken from the run before, by their ETags
    listing = tmp_path / "place" / "photos.listing"
    assert write_url_listing(url, listing) == 9
    before = listing.stat().st_mtime_ns
    remote._listed.cache_clear()
    assert write_url_listing(url, listing) == 9 and listing.stat().st_mtime_ns == before


def test_an_object_that_was_changed_since_it_was_listed_is_named_at_once(
    s3: S3, tmp_path: Path, cache: Cache
) -> None:
    url = s3.bucket("changed", lay(tmp_path / "all"))
    pictures_of, tars = (
        list_source("class_folder", f"{url}/photos"),
        list_source("webdataset", f"{url}/one.tar", cache=cache),
    )
    files, first = s3.files(), pictures_of.images[0]
    whole = files.cat_file(f"changed/photos/{first.name}")
    for data in (whole + b"more", whole[:-1]):
        files.pipe_file(f"changed/photos/{first.name}", data)
        with pytest.raises(
            opening.StoreError, match=f"{first.name} has {len(data)} bytes now: it was changed"
        ):
            first.data.read()
    shutil.rmtree(cache.folder)
    files.pipe_file("changed/one.tar", b"short")
    with pytest.raises(
        opening.StoreError, match="one.tar has 5 bytes now: it was changed since it was listed"
    ):
        tars.images[0].data.read()


def test_a_container_of_azure_is_an_address_and_a_password_never_is() -> None:
    addresses.refuse_wrong("abfs://photos@account.dfs.core.windows.net/pets", "shard.source")
    for url in ("abfs://user:secret@account/pets", "s3://key@bucket/pets", "https://user:secret@host/a.tar"):
        with pytest.raises(UserError, match="holds credentials"):
            addresses.refuse_wrong(url, "shard.source")


def test_brackets_in_a_url_are_no_address_of_version_six() -> None:
    for url in ("s3://bucket/[a]", "s3://[a/b", "https://host]/x"):
        addresses.refuse_wrong(url, "shard.source")
        with pytest.raises(UserError, match=r"is a pattern \(|nothing can be put there"):
            addresses.refuse_unwritable(url, "shard.home")


def test_a_store_that_stays_away_is_named_in_one_line(
    web: Web, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(web.folder)
    found = list_source("class_folder", f"{web.url}/paths.txt", cache=cache)
    web.stop()
    monkeypatch.setattr(opening, "PATIENCE", 0.6)
    with pytest.raises(opening.StoreError, match=r"paths/?.*|cannot be reached .*, tried for 0\.6 s") as told:
        found.images[0].data.read()
    assert "\n" not in str(told.value) and web.url in str(told.value)
    web.start()


@pytest.mark.parametrize(
    "url", ["https://typo.invalid/a.tar", "s3://bucket/a.tar", "hf://datasets/a/b/c.txt"]
)
@pytest.mark.parametrize(
    ("number", "known", "told"),
    [
        (socket.EAI_NONAME, False, r"its host is not known \(.*\); check its spelling"),
        (socket.EAI_AGAIN, False, r"tried for 0\.3 s"),
        (socket.EAI_NONAME, True, r"tried for 0\.3 s"),
    ],
    ids=["no such host", "no answer now", "a host that has answered"],
)
def test_a_host_that_does_not_exist_is_told_at_once(
    url: str, number: int, known: bool, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever client asks; and a name server that is away for a moment is waited for."""
    asked: list[object] = []

    def unknown(host: object, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(number, "no address")

    away = {"endpoint_url": "http://typo.invalid:1", "key": "a", "secret": "b"}
    monkeypatch.setitem(opening.OPTIONS, "s3", opening.OPTIONS["s3"] | away)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(opening, "PATIENCE", 0.3)
    monkeypatch.setattr(opening, "_ANSWERED", {"https://typo.invalid", "s3", "hf"} if known else set())
    with pytest.raises(opening.StoreError, match=rf"^{url} cannot be reached.*{told}") as error:
        opening.read(url)
    assert asked and "\n" not in str(error.value)


def test_a_store_that_answered_is_known(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_ANSWERED", set())
    write(web.folder / "a.tar", b"0123456789")
    assert opening.read(f"{web.url}/a.tar", 2, 3) == b"234"
    assert set(opening._ANSWERED) == {web.url}


def test_wrong_bytes_and_files_larger_than_the_cache_are_refused(web: Web, tmp_path: Path) -> None:
    write(web.folder / "a.tar", b"0123456789")
    wanted = Wanted(f"{web.url}/a.tar", 10, "0" * 64)
    with pytest.raises(
        opening.StoreError, match=rf"{web.url}/a.tar holds other bytes .* SHA-256 84d8.*, expected 0000"
    ):
        Cache(tmp_path / "cache").held(wanted)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.stat().st_size]
    with pytest.raises(UserError, match="compute.cache_bytes is 9, and .* has 10 bytes"):
        Cache(tmp_path / "cache", 9).held(wanted)


def test_the_cache_stays_within_its_bound_and_keeps_what_was_used_last(web: Web, tmp_path: Path) -> None:
    files = [Wanted(f"{web.url}/{number}", 100, stamp="1") for number in range(6)]
    for number in range(6):
        write(web.folder / str(number), bytes([number]) * 100)
    cache = Cache(tmp_path / "cache", 300)
    for number in (0, 1, 0, 2, 0, 3, 4):
        with cache.held(files[number]) as file:
            assert file.read() == bytes([number]) * 100
        held = sum(path.stat().st_size for path in cache.folder.iterdir())
        assert held <= 300
    assert web.asked.count("GET /0") == 1 and web.asked.count("GET /1") == 1
    with cache.held(files[0]), cache.held(files[3]), cache.held(files[4]), cache.held(files[5]):
        assert all(
            cache.path_of(files[number]).exists() for number in (0, 3, 4, 5)
        )  # in use: none is removed
    cache.held(files[1]).close()
    assert sum(path.stat().st_size for path in cache.folder.iterdir()) <= 300
