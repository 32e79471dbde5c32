"""Broken artifacts: a flipped or a missing byte of each, swapped ones, newer ones, torn checkpoints."""

import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import torch

from shards.tokens import TokenShards
from shards.verify import verify
from tests.hostile.table import Case, World, flipped
from training.loop.checkpoints import list_checkpoints, load_checkpoint, newest_whole, save_checkpoint
from workspace.exact.manifest import NAME, canonical_json, read_json, read_manifest, sealed, write_manifest

NEXT = {
    "shapes": "shard", "shards": "tokenize", "reference": "evaluate", "mqvae": "tokenize", "reconstructions": "report",
    "tokens": "train_stackformer", "stackformer": "sample", "samples": "evaluate",
}  # fmt: skip
"""Each artifact → a stage that reads it."""


def read_by_next(world: World, name: str) -> str:
    """What the next stage says of an artifact, or `shards.verify` where no stage reads it."""
    if name in NEXT:
        return world.run(NEXT[name])
    with chdir(world.root):
        return world.told(lambda: verify(Path("artifacts") / name))


def byte(name: str, file: str, missing: bool) -> Callable[[World, Path], str]:
    """A byte of a file flipped in its middle, or its last one gone."""

    def one(world: World, folder: Path) -> str:
        path = next(iter(sorted(world.artifact(name).glob(file))))
        data = path.read_bytes()
        with world.damaged(path, data[:-1] if missing else flipped(data, len(data) // 2)):
            return read_by_next(world, name)

    return one


def gone(name: str, file: str) -> Callable[[World, Path], str]:
    """A file removed."""

    def one(world: World, folder: Path) -> str:
        with world.damaged(next(iter(sorted(world.artifact(name).glob(file)))), None):
            return read_by_next(world, name)

    return one


def told_otherwise(
    name: str, change: Callable[[dict[str, Any]], None], seal: bool = True
) -> Callable[[World, Path], str]:
    """A manifest that says something else, sealed anew by whoever changed it."""

    def one(world: World, folder: Path) -> str:
        path = world.artifact(name) / NAME
        value = read_json(path)
        change(value)
        content = {key: inner for key, inner in value.items() if key != "checksum"}
        text = canonical_json(sealed(content) if seal else value)
        with world.damaged(path, text.encode()):
            return read_by_next(world, name)

    return one


def other_decoder(world: World, folder: Path) -> str:
    """Tokens of one MQ-VAE, the decoder of another."""
    other = folder / "mqvae"
    shutil.copytree(world.artifact("mqvae"), other)
    facts = read_manifest(other, "mqvae").facts
    write_manifest(other, "mqvae", {**facts, "steps": 5}, {"shards": "0" * 64})
    return world.run("sample", "--mqvae", str(other), "--out", str(folder / "out"))


def other_grid(world: World, folder: Path) -> str:
    """A Stackformer of a smaller grid that claims the same MQ-VAE."""
    other = folder / "stackformer"
    shutil.copytree(world.artifact("stackformer"), other)
    manifest = read_manifest(other, "stackformer")
    write_manifest(other, "stackformer", {**manifest.facts, "grid": [2, 2]}, manifest.made_from)
    return world.run("sample", "--stackformer", str(other), "--out", str(folder / "out"))


def beyond_uint16(world: World, folder: Path) -> str:
    """Tokens that claim 70,000 codes."""
    other = folder / "tokens"
    shutil.copytree(world.artifact("tokens"), other)
    manifest = read_manifest(other, "token-shards")
    write_manifest(other, "token-shards", {**manifest.facts, "num_codes": 70000}, manifest.made_from)
    return world.told(lambda: TokenShards.open(other))


def codebook_beyond_uint16(world: World, folder: Path) -> str:
    """Params that ask for 70,000 codes."""
    return world.run("train_mqvae", "--set", "mqvae.model.num_codes=70000", "--out", str(folder / "out"))


def unlisted_tar(world: World, folder: Path) -> str:
    """A tar that the manifest does not name lies among the samples."""
    stranger = world.artifact("samples") / "000001.tar"
    stranger.write_bytes(b"not even a tar")
    try:
        return world.run("evaluate")
    finally:
        stranger.unlink()


def republished(world: World, folder: Path) -> str:
    """A flipped byte in an artifact that shares its file with the finished run: the stage makes it again."""
    from stages.train_mqvae import STAGE
    from workflow import running
    from workflow.command_line import parser_of

    path = world.artifact("mqvae") / "model.safetensors"
    whole = path.read_bytes()
    told = world.run("train_mqvae")
    with path.open("r+b") as file:  # in place: the run's own file changes too
        file.write(flipped(whole, 100)[:200])
    with chdir(world.root):
        arguments = parser_of(STAGE).parse_args([])
        told = world.told(lambda: running.run(STAGE, arguments))
    return f"{told}: {'the same bytes again' if path.read_bytes() == whole else 'other bytes'}"


def trained(folder: Path) -> tuple[dict[str, torch.nn.Module], dict[str, torch.optim.Optimizer]]:
    """A module and its optimiser with checkpoints of steps 1, 2, 3, of which two are kept."""
    torch.manual_seed(0)
    modules = {"model": torch.nn.Linear(4, 4)}
    optimizers = {"adam": torch.optim.Adam(modules["model"].parameters())}
    for step in (1, 2, 3):
        optimizers["adam"].zero_grad()
        modules["model"](torch.randn(2, 4)).sum().backward()
        optimizers["adam"].step()
        save_checkpoint(folder, step, modules, dict(optimizers))
    return dict(modules), dict(optimizers)


def checkpoint(
    file: str, change: Callable[[bytes], bytes], every: bool = False
) -> Callable[[World, Path], str]:
    """The newest checkpoint (or every one) with a file changed."""

    def one(world: World, folder: Path) -> str:
        work = folder / "run" / "work"
        modules, optimizers = trained(work)
        for path in list_checkpoints(work)[0 if every else -1 :]:
            (path / file).write_bytes(change((path / file).read_bytes()))

        def resume() -> None:
            found = newest_whole(work)
            assert found is not None
            step = load_checkpoint(found, modules, optimizers)
            raise LookupError(f"goes on from step {step}")

        try:
            return world.told(resume)
        except LookupError as told:
            return str(told.args[0])

    return one


def damaged_checkpoint_loaded(world: World, folder: Path) -> str:
    """Read directly, without asking for the newest whole one."""
    modules, optimizers = trained(folder)
    path = list_checkpoints(folder)[-1]
    (path / "state.safetensors").write_bytes(flipped((path / "state.safetensors").read_bytes(), 300))
    return world.told(lambda: load_checkpoint(path, modules, optimizers))


def swapped_kind(world: World, folder: Path) -> str:
    """The shards where the MQ-VAE is expected."""
    return world.run("sample", "--mqvae", "artifacts/shards", "--out", str(folder / "out"))


def short_split(world: World, folder: Path) -> str:
    """An honest manifest about a split with fewer images than its facts say."""
    other = folder / "tokens"
    shutil.copytree(world.artifact("tokens"), other)
    manifest = read_manifest(other, "token-shards")
    counts = {**manifest.facts["counts"], "val": 1}
    write_manifest(other, "token-shards", {**manifest.facts, "counts": counts}, manifest.made_from)
    return world.told(lambda: TokenShards.open(other).load("val"))


def half_written(world: World, folder: Path) -> str:
    """A stage that dies half way leaves its artifact as it was."""
    from stages import tokenize

    before, whole = (
        read_manifest(world.artifact("tokens"), "token-shards").fingerprint,
        tokenize.write_token_manifest,
    )

    def dies(*arguments: object) -> None:
        raise KeyboardInterrupt

    tokenize.write_token_manifest = dies  # type: ignore[assignment]
    try:
        world.run("tokenize")
    except KeyboardInterrupt:
        stopped = True
    else:
        stopped = False
    finally:
        tokenize.write_token_manifest = whole
    assert stopped, "tokenize never came to its manifest"
    after = read_manifest(world.artifact("tokens"), "token-shards").fingerprint
    return "the artifact is as it was" if after == before else "another artifact"


def facts(**changes: object) -> Callable[[dict[str, Any]], None]:
    """Changes some facts."""
    return lambda value: value["facts"].update(changes)


FILES = {
    "shapes": "train/000000.tar", "shards": "train/000000.tar", "reference": "moments.safetensors", "mqvae": "model.safetensors",
    "reconstructions": "examples/*.png", "tokens": "train/000000.tar", "stackformer": "model.safetensors",
    "samples": "000000.tar", "evaluation": "neighbours.safetensors", "report": "index.html",
}  # fmt: skip


def cases() -> list[Case]:
    """Every broken artifact."""
    group = "broken artifacts"
    changed, lacks = "was changed: SHA-256 #…, expected #…", "bytes, but its manifest says"
    flips = [
        Case(f"a flipped byte in {name}", group, f"the middle of {file}", changed, byte(name, file, False))
        for name, file in FILES.items()
    ]
    cuts = [
        Case(f"a missing byte in {name}", group, f"the end of {file}", lacks, byte(name, file, True))
        for name, file in FILES.items()
    ]
    return [
        *flips,
        *cuts,
        Case("a flipped byte in an index", group, "val.index.npy", changed, byte("shards", "val.index.npy", False)),
        Case("a flipped byte in a config.json", group, "of the MQ-VAE", changed, byte("mqvae", "config.json", False)),
        Case("a flipped byte in a manifest", group, "of the tokens", "refused: ", byte("tokens", NAME, False)),
        Case("a manifest without its last byte", group, "the newline", "its content does not match its checksum", byte("tokens", NAME, True)),
        Case("a manifest changed by hand", group, "num_kept, not sealed anew", "its content does not match its checksum",
             told_otherwise("tokens", facts(num_kept=3), seal=False)),
        Case("no manifest", group, "removed", "holds no finished artifact (manifest.json is missing): run `dvc repro tokenize`", gone("tokens", NAME)),
        Case("a lost tar", group, "removed", "is missing, but its manifest says", gone("tokens", "val/000000.tar")),
        Case("a tar that the manifest does not name", group, "000001.tar among the samples", "done", unlisted_tar),
        Case("a manifest of a newer schema", group, "schema 4", "has schema 4, but this version reads 3",
             told_otherwise("tokens", lambda value: value.update(schema=4))),
        Case("a manifest of an older schema", group, "schema 2", "has schema 2, but this version reads 3",
             told_otherwise("mqvae", lambda value: value.update(schema=2))),
        Case("an artifact of another kind", group, "shards for the MQ-VAE", "is an artifact of kind image-shards, expected mqvae", swapped_kind),
        Case("tokens of one MQ-VAE, the decoder of another", group, "another manifest", "learned tokens made by MQ-VAE #…", other_decoder),
        Case("a Stackformer of another grid", group, "2 × 2, sealed anew", "draws grid (2, 2), but artifacts/mqvae decodes (8, 8)", other_grid),
        Case("tokens of more codes than uint16 holds", group, "K = 70,000, sealed anew", "K = 70,000 does not fit uint16", beyond_uint16),
        Case("params of more codes than uint16 holds", group, "num_codes=70000", "(codes are stored as uint16)", codebook_beyond_uint16),
        Case("N beyond the grid", group, "num_kept = 65 of 64, sealed anew", "N = 65 is not in 1 … L", told_otherwise("tokens", facts(num_kept=65))),
        Case("facts of another type", group, "grid: 'big', sealed anew", "facts of token shards: grid", told_otherwise("tokens", facts(grid="big"))),
        Case("another count than the blocks hold", group, "val: 1, honest otherwise", "images, but its manifest says 1", short_split),
        Case("a manifest that names a file outside", group, "../../secret, sealed anew", "points outside the artifact's folder",
             told_otherwise("tokens", lambda value: value["files"].update({"../../secret": {"bytes": 1, "sha256": "0" * 64}}))),
        Case("a finished run damaged with its artifact", group, "in place, through a hard link", "done: the same bytes again", republished),
        Case("a stage that dies half way", group, "before its manifest", "the artifact is as it was", half_written),
        Case("a torn newest checkpoint", group, "half of its tensors", "goes on from step 2", checkpoint("state.safetensors", lambda data: data[: len(data) // 2])),
        Case("a flipped byte in the newest checkpoint", group, "in its tensors", "goes on from step 2", checkpoint("state.safetensors", lambda data: flipped(data, len(data) - 3))),
        Case("a flipped byte in a checkpoint's state", group, "in its JSON", "goes on from step 2", checkpoint("state.json", lambda data: flipped(data, len(data) // 2))),
        Case("every checkpoint torn", group, "both", "all checkpoints in", checkpoint("state.safetensors", lambda data: data[:-9], every=True)),
        Case("a damaged checkpoint that is named", group, "read directly", "is missing or was changed", damaged_checkpoint_loaded),
    ]  # fmt: skip
