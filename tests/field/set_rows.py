"""Several sets of images to train on, and tars that are kept in a home of their own."""

import re
import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

from tests.field.counting import sharded
from tests.field.table import Field, Row
from tests.hostile.table import World, plain
from tests.shards.making import write_pictures
from tests.tiny import run
from workspace.exact.manifest import read_manifest

SETS, HOME = "several sets of images", "tars in a home"
Outcome = Callable[[Field, Path], str]


def another(folder: Path, size: int = 16) -> Path:
    """A set of twelve pictures."""
    write_pictures(folder / "pictures", [f"{number:02d}.png" for number in range(12)])
    made = sharded(folder / "pictures", folder / f"run-{size}", image_size=size, val_fraction=0.25)
    return made.folder.out


def trained(world: World, folder: Path, sources: str) -> str:
    """What train_mqvae tells of `sources`."""
    said = world.run("train_mqvae", "--set", f"mqvae.sources={sources}", "--out", str(folder / "mqvae"))
    return plain(said, folder)


def told(sources: str, made: Callable[[Field, Path], object] = lambda field, folder: None) -> Outcome:
    """The same, FOLDER being the row's own; `made` lays it out."""

    def outcome(field: Field, folder: Path) -> str:
        made(field, folder)
        return trained(field.world(), folder, sources.replace("FOLDER", str(folder)))

    return outcome


def alone(field: Field, folder: Path) -> str:
    """The workflow's own set, named with a weight."""
    said, name = trained(field.world(), folder, "[{shards: null, weight: 5}]"), "model.safetensors"
    same = (folder / "mqvae" / name).read_bytes() == (field.world().artifact("mqvae") / name).read_bytes()
    return f"{said}; the weights are {'the same bytes' if same else 'other bytes'} as without sources"


def mixed(field: Field, folder: Path) -> str:
    """Two sets, trained on twice."""
    world, other = field.world(), another(folder)
    sources = f"[{{shards: null, weight: 3}}, {{shards: {other}, weight: 1}}]"
    said = [trained(world, folder / name, sources) for name in ("one", "two")]
    models = [(folder / name / "mqvae" / "model.safetensors").read_bytes() for name in ("one", "two")]
    plainly = (world.artifact("mqvae") / "model.safetensors").read_bytes()
    made_from = read_manifest(folder / "one" / "mqvae", "mqvae").made_from
    known = [read_manifest(place, "image-shards").fingerprint for place in (world.artifact("shards"), other)]
    named = [made_from.get(f"sources.{number}") for number in range(2)] == known
    return (
        f"{', '.join(said)}; equal bytes twice: {models[0] == models[1]}, as without: {models[0] == plainly}; "
        f"the model names both sets: {named}"
    )


def homed(home: str, made: Callable[[Field, Path], object] = lambda field, folder: None) -> Outcome:
    """What `shard` tells of a home, FOLDER being the row's own."""

    def outcome(field: Field, folder: Path) -> str:
        made(field, folder)
        write_pictures(folder / "pictures", [f"{number:02d}.png" for number in range(12)])
        place = home.replace("FOLDER", str(folder))
        words = [f"shard.source={folder / 'pictures'}", "shard.kind=folder", f"shard.home={place}"]
        options = [word for text in words for word in ("--set", text)]
        return plain(field.world().run("shard", *options, "--out", str(folder / "shards")), folder)

    return outcome


def lost(field: Field, folder: Path) -> str:
    """A training whose tars were removed from their home."""
    root = folder / "world"
    shutil.copytree(field.world().root, root, ignore=shutil.ignore_patterns(".runs"))
    world = World(root)
    with chdir(root):
        (root / "artifacts" / "shards").rename(root / "artifacts" / "old")
    said = [world.run("shard", "--set", "shard.home=tars", "--out", "artifacts/shards")]
    said += [world.run("reference")]
    shutil.rmtree(root / "tars")
    return plain("; ".join([*said, world.run("train_mqvae")]), root)


def moved(field: Field, folder: Path) -> str:
    """A finished repository whose tars are given a home."""
    root = field.repository(folder)
    params = (root / "params.yaml").read_text(encoding="utf-8")
    model = (root / "artifacts" / "mqvae" / "manifest.json").read_bytes()
    (root / "params.yaml").write_text(re.sub(r"(?m)^  home:.*$", "  home: tars", params), encoding="utf-8")
    said = run(root, "dvc", "repro", "train_mqvae")
    assert "Running stage 'shard'" in said and "Running stage 'train_mqvae'" in said, said
    again = "published without work" if "[train_mqvae] finished before" in said else "made again"
    same = (root / "artifacts" / "mqvae" / "manifest.json").read_bytes() == model
    left = len(list((root / "artifacts" / "shards").rglob("*.tar")))
    clean = "up to date" in run(root, "dvc", "status", "train_mqvae", "shard")
    return f"the model is {again}, the same: {same}; {left} tars for DVC; up to date afterwards: {clean}"


def wrong(
    symptom: str, sources: str, expected: str, made: Callable[[Field, Path], object] | None = None
) -> Row:
    outcome = told(sources) if made is None else told(sources, made)
    return Row(symptom, SETS, f"`mqvae.sources: {sources}`", expected, outcome)


ROWS = (
    wrong(
        "a set of weight 0",
        "[{shards: null, weight: 0}]",
        "weight is 0.0, expected a number > 0; leave a set out",
    ),
    wrong(
        "a set of negative weight", "[{shards: null, weight: -1}]", "weight is -1.0, expected a number > 0"
    ),
    wrong(
        "a weight that is no number",
        "[{shards: null, weight: .nan}]",
        "mqvae holds a number that is not finite",
    ),
    wrong("an endless weight", "[{shards: null, weight: .inf}]", "mqvae holds a number that is not finite"),
    wrong("a weight in words", "[{shards: null, weight: much}]", "mqvae.sources"),
    wrong("a set without its weight", "[{shards: null}]", "mqvae.sources.0.weight is missing"),
    wrong(
        "a set under another name",
        "[{folder: data, weight: 1}]",
        "mqvae.sources.0.folder is not a setting. Expected one of: shards, weight",
    ),
    wrong(
        "a set that is not there",
        "[{shards: null, weight: 1}, {shards: FOLDER/none, weight: 1}]",
        "refused: mqvae.sources[1].shards is …/none, which is not a folder; expected image shards, as `shard` writes them",
    ),
    wrong(
        "a folder of pictures as a set",
        "[{shards: FOLDER/pictures, weight: 1}]",
        "refused: mqvae.sources[0].shards: …/pictures holds no finished artifact",
        lambda field, folder: write_pictures(folder / "pictures", ["a.png"]),
    ),
    wrong(
        "a set of another kind",
        "[{shards: artifacts/tokens, weight: 1}]",
        "refused: mqvae.sources[0].shards: artifacts/tokens is an artifact of kind token-shards, expected image-shards",
    ),
    wrong(
        "sets of two sizes",
        "[{shards: null, weight: 1}, {shards: FOLDER/run-32/out, weight: 1}]",
        "holds images of 32 px, and mqvae.model.image_size is 16: make it again with shard.image_size 16",
        lambda field, folder: another(folder, 32),
    ),
    wrong(
        "a set twice",
        "[{shards: artifacts/shards, weight: 1}, {shards: artifacts/../artifacts/shards, weight: 2}]",
        "mqvae.sources[1].shards is artifacts/../artifacts/shards as sources[0] is; expected each set once, with the sum of their",
    ),
    wrong(
        "the workflow's own set twice",
        "[{shards: null, weight: 1}, {shards: null, weight: 2}]",
        "mqvae.sources[1].shards is null, the workflow's own set, as sources[0] is; expected each set once",
    ),
    wrong(
        "the workflow's own set by both of its names",
        "[{shards: null, weight: 1}, {shards: artifacts/shards, weight: 2}]",
        "mqvae.sources[1].shards: artifacts/shards is the same set as mqvae.sources[0].shards; expected each once",
    ),
    wrong(
        "more sets than a process may open",
        "[" + ", ".join(f"{{shards: set{number}, weight: 1}}" for number in range(17)) + "]",
        "mqvae.sources has 17 sets; expected at most 16",
    ),
    Row(
        "one set with a weight",
        SETS,
        "`mqvae.sources: [{shards: null, weight: 5}]`",
        "done; the weights are the same bytes as without sources",
        alone,
    ),
    Row(
        "two sets, three to one",
        SETS,
        "the workflow's own and one of 12 pictures, trained on twice",
        "done, done; equal bytes twice: True, as without: False; the model names both sets: True",
        mixed,
    ),
    Row(
        "a home inside the artifact",
        HOME,
        "`shard.home: FOLDER/shards/tars`, `--out FOLDER/shards`",
        "refused: shard.home …/tars is inside …/shards, which is replaced as a whole; expected a folder outside of it",
        homed("FOLDER/shards/tars"),
    ),
    Row(
        "a home inside the source",
        HOME,
        "`shard.home: FOLDER/pictures/tars`",
        "shard.home …/tars is inside shard.source, which would then hold the tars; expected another folder",
        homed("FOLDER/pictures/tars"),
    ),
    Row(
        "a home that is a file",
        HOME,
        "a file named home",
        "shard.home is …/home, which is a file; expected a folder",
        homed("FOLDER/home", lambda field, folder: (folder / "home").write_text("x")),
    ),
    Row(
        "an empty home",
        HOME,
        "`shard.home: ''`",
        "shard.home is ''; expected a folder in one line",
        homed("''"),
    ),
    Row("a new home", HOME, "`shard.home: FOLDER/new/home`", "done", homed("FOLDER/new/home")),
    Row(
        "tars are moved to a home after a training",
        HOME,
        "`shard.home: tars` where everything has run; `dvc repro train_mqvae`",
        "the model is published without work, the same: True; 0 tars for DVC; up to date afterwards: True",
        moved,
    ),
    Row(
        "the tars of a home were removed",
        HOME,
        "`shard.home: tars`, then `rm -r tars`",
        "done; done; refused: val/000000.tar of artifacts/shards is not in its home tars (as #/val/000000.tar): bring the "
        "tars back, or make them again with `dvc repro --force --single-item shard`",
        lost,
    ),
)
