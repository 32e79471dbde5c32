"""Image shards whose tars are at a URL: every stage reads them through the cache, with the results of the set on a disk."""

import shutil
import threading
from contextlib import chdir
from pathlib import Path
from unittest import mock

import pytest

from settings.mqvae import MQVAESettings
from shards.attach import attach
from shards.home import clean, sets_in
from shards.images import SPLITS, ImageShards
from shards.images.home import set_name
from shards.push import pushed
from shards.verify import verify
from tests import presets
from tests.field.counting import sharded
from tests.hostile.table import World, flipped
from tests.shards.making import write_pictures
from tests.shards.test_home import pixels
from tests.stores import S3, away
from tests.stores import s3 as s3
from tests.tiny import small_world
from tests.training.test_mqvae_training import Alone
from tests.waiting import slowness
from training.mqvae.batches import ImageBatches
from workspace.errors import UserError
from workspace.exact.homes import HOME
from workspace.exact.manifest import NAME
from workspace.fingerprints import input_fingerprint
from workspace.stores import cache as caches
from workspace.stores import opening
from workspace.stores.cache import Cache


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, [f"{number:02d}.png" for number in range(16)])
    return folder


@pytest.fixture(scope="module")
def here(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set on disk: five tars."""
    return sharded(source, tmp_path_factory.mktemp("here")).folder.out


def test_a_set_is_the_same_with_its_home_at_a_url(source: Path, here: Path, s3: S3, tmp_path: Path) -> None:
    url = s3.bucket("home-of-sets")
    with chdir(tmp_path):
        far = sharded(source, tmp_path / "far", home=f"{url}/sets").folder.out
        assert (far / HOME).read_text() == f"{url}/sets\n" and not list(far.rglob("*.tar"))
        assert (far / NAME).read_bytes() == (here / NAME).read_bytes()
        assert input_fingerprint(far) == input_fingerprint(here)
        there = s3.files().find(f"home-of-sets/sets/{set_name(far)}")
        assert sum(name.endswith(".tar") for name in there) == 5 and len(there) == len(
            [path for path in here.rglob("*") if path.is_file()]
        )
        assert pixels(ImageShards.open(far)) == pixels(ImageShards.open(here))
        assert "9 train, 7 val images are intact" in verify(far)


def test_a_push_that_was_stopped_continues_and_the_set_is_attached_elsewhere(
    here: Path, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, put, sent = s3.bucket("pushed"), opening.put, list[str]()

    def stops_at_the_fourth(source: Path, target: str) -> None:
        if len(sent) == 3:
            raise KeyboardInterrupt
        sent.append(target)
        put(source, target)

    with mock.patch("shards.making.pushing.put", stops_at_the_fourth), pytest.raises(KeyboardInterrupt):
        pushed(here, url)
    with mock.patch("shards.making.pushing.put", side_effect=put) as rest:
        made = pushed(here, url)
    names = [call.args[1] for call in rest.call_args_list]
    assert not {*sent} & {*names} and names[-1] == f"{made}/{NAME}"
    cache = Cache(tmp_path / "cache")
    attach(made, tmp_path / "elsewhere" / "shards")
    shards = ImageShards.open(tmp_path / "elsewhere" / "shards", cache)
    assert pixels(shards) == pixels(ImageShards.open(here))
    with pytest.raises(UserError, match="exists; expected a new folder"):
        attach(made, tmp_path / "elsewhere" / "shards")

    name = f"pushed/{set_name(here)}/val/000001.tar"
    files = s3.files()
    files.pipe_file(name, flipped(files.cat_file(name), 700))
    shutil.rmtree(cache.folder)
    wrong = rf"s3://{name} holds other bytes than were written: SHA-256 \w+, expected \w+; .*shards.push .* --again"
    with pytest.raises(opening.StoreError, match=wrong):
        pixels(shards)
    pushed(here, url, again=True)
    assert pixels(shards) == pixels(ImageShards.open(here))


def test_the_sets_of_a_home_at_a_url_are_listed_and_those_that_nothing_names_are_removed(
    here: Path, source: Path, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, repository = f"{s3.bucket('cleaned')}/sets", tmp_path / "repository"
    pushed(here, url)
    forgotten = sharded(source, tmp_path / "other", seed=1).folder.out
    pushed(forgotten, url)
    shutil.copytree(here, repository / "artifacts" / "shards")
    s3.files().pipe_file("cleaned/sets/0123456789abcdef/train/000000.tar", b"half")
    s3.files().pipe_file("cleaned/sets/notes.txt", b"mine")
    found = {one.name: one for one in sets_in(url, [repository])}
    assert {name for name, one in found.items() if not one.named} == {set_name(forgotten)}
    assert found["0123456789abcdef"].named == "being made"
    mine = found[set_name(here)]
    assert (mine.tars, mine.size) == (5, sum(path.stat().st_size for path in here.rglob("*.tar")))
    assert clean(list(found.values())) == 1
    monkeypatch.setattr("shards.home.BEING_MADE_SECONDS", 0.0)
    assert clean(sets_in(url, [repository])) == 1
    left = {name.split("/")[2] for name in s3.files().find("cleaned/sets")}
    assert left == {set_name(here), "notes.txt"}
    with pytest.raises(UserError, match="nothing can be put there"):
        sets_in("https://host/sets", [])


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://host/shards", "the URL https://host/shards: nothing can be put there"),
        ("artifacts/elsewhere", "is not a URL; expected one such as s3://bucket/shards"),
        ("s3:/bucket", "is not a URL"),
        ("se3://bucket", "Did you mean s3://"),
    ],
)
def test_where_nothing_can_be_pushed_is_refused(here: Path, url: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pushed(here, url)


def settings_of(steps: int) -> MQVAESettings:
    return MQVAESettings.model_validate(presets.tree("tiny")["mqvae"]).replaced(
        steps=steps, global_batch=4, micro_batch=2, flip=True
    )


@pytest.mark.parametrize("loaders", [0, 2])
def test_batches_are_the_same_from_a_url_with_a_cache_that_holds_two_tars(
    here: Path, s3: S3, tmp_path: Path, loaders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.mqvae.batches.GROUP", 1)
    monkeypatch.setattr("shards.images.reading.MOST_FETCHED", 1)
    url = pushed(here, s3.bucket(f"batches-{loaders}"))
    largest = max(path.stat().st_size for path in here.rglob("*.tar"))
    cache = Cache(tmp_path / "cache", 4 * largest)
    far, near = attach(url, tmp_path / "far"), ImageShards.open(here)
    far = ImageShards.open(far.folder, cache)
    settings = settings_of(9)
    expected, found = (
        ImageBatches(settings.images(shards), settings, Alone(), loaders) for shards in (near, far)
    )
    assert expected.ahead is None and found.ahead is not None
    for step in range(2, 9):
        pairs = zip(expected(step), found(step), strict=True)
        assert all(
            a.first == b.first and a.seeds == b.seeds and bool((a.image_BCHW == b.image_BCHW).all())
            for a, b in pairs
        )
        used = sum(path.stat().st_size for path in cache.folder.iterdir() if path.suffix != caches.PART)
        assert used <= cache.most_bytes


def test_the_next_group_is_fetched_while_this_one_is_read(
    here: Path, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.mqvae.batches.GROUP", 1)
    url = pushed(here, s3.bucket("ahead"))
    shards = ImageShards.open(attach(url, tmp_path / "far").folder, Cache(tmp_path / "cache"))
    settings = settings_of(9)
    batches = ImageBatches(settings.images(shards), settings, Alone(), 0)
    fetched, by = threading.Event(), list[str]()
    real = caches.fetch

    def noted(*args: object) -> None:
        real(*args)  # type: ignore[arg-type]
        by.append(threading.current_thread().name)
        if by.count("prefetch"):
            fetched.set()

    monkeypatch.setattr(caches, "fetch", noted)
    batches(0)
    assert fetched.wait(30 * slowness()), by


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return small_world(tmp_path_factory, tmp_path_factory.mktemp("far") / "world")


@pytest.fixture
def far(world: World, s3: S3) -> Path:
    """The world's own set, at a URL."""
    if not (world.root / "far").is_dir():
        attach(pushed(world.artifact("shards"), s3.bucket("world")), world.root / "far")
    return Path("far")


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", ["reference", "train_mqvae", "reconstruct", "tokenize"])
def test_a_stage_makes_the_same_bytes_from_a_url_though_the_store_is_down_for_a_while(
    name: str, world: World, far: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = {"train_mqvae": "mqvae", "tokenize": "tokens", "reconstruct": "reconstructions"}.get(
        name, name
    )
    monkeypatch.setattr(opening, "PATIENCE", 30.0)
    shutil.rmtree(world.root / ".runs" / "cache", ignore_errors=True)
    fetch, back = caches.fetch, list[threading.Thread]()

    def first_fetch_stops(url: str, target: Path, size: int) -> None:
        fetch(url, target, size)
        if name in ("train_mqvae", "tokenize") and not back:
            back.append(away(s3, 1.0))

    monkeypatch.setattr(caches, "fetch", first_fetch_stops)
    told = world.run(name, "--shards", str(far), "--out", f"out/{name}")
    for thread in back:
        thread.join()
    assert told == "done"
    assert files_of(world.root / "out" / name) == files_of(world.artifact(artifact))
    assert len(SPLITS) == 2 and any((world.root / ".runs" / "cache").iterdir())
