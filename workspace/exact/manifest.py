"""An artifact's manifest: its kind, facts, inputs, and a checksum per file.

Every artifact has a `manifest.json` (docs/artifacts.md), without time, host or absolute path: equal inputs give equal bytes. Its
SHA-256 is the artifact's fingerprint, the next one's `made_from`; a checksum of its own content reveals a flipped byte in it.
"""

import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from workspace.errors import UserError
from workspace.exact.homes import HOME, STREAMED, beside
from workspace.exact.json_text import parse_json

SCHEMA = 3
NAME = "manifest.json"
SEAL = "checksum"
MOST_JSON_BYTES = 1 << 26
MAPPED, MOST_HASHED = (".index.npy", ".sources.txt"), 1 << 26
"""Files that it does not hash either if they are larger than this: their readers check the parts that they read."""

T = TypeVar("T")

PRODUCER = {
    "shapes": "demo/dvc.yaml:draw_shapes",
    "image-shards": "shard",
    "reference": "reference",
    "mqvae": "train_mqvae",
    "reconstructions": "reconstruct",
    "token-shards": "tokenize",
    "stackformer": "train_stackformer",
    "samples": "sample",
    "evaluation": "evaluate",
    "report": "report",
}
"""Kind of artifact → the stage that makes it, in the form that `dvc repro` takes at the root, for error messages."""


@dataclass(frozen=True)
class FileEntry:
    """A file of an artifact: size in bytes and SHA-256 in hex."""

    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if self.bytes < 0 or not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(
                f"{self.bytes} bytes with SHA-256 {self.sha256[:80]!r} is not an entry of a file"
            )


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`.

    Attributes:
        kind: one of the keys of `PRODUCER`.
        made_from: name of each input → its fingerprint.
        facts: JSON values that the artifact's readers need (counts, sizes, class names).
        files: path relative to the folder, with `/` → its entry.
    """

    kind: str
    made_from: Mapping[str, str]
    facts: Mapping[str, Any]
    files: Mapping[str, FileEntry]

    def __post_init__(self) -> None:
        for name in self.files:
            path = PurePosixPath(name)
            if path.is_absolute() or {"", "..", "."} & {*name.split("/")} or "\0" in name:
                raise ValueError(f"the file name {name[:80]!r} points outside the artifact's folder")

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON values, in the written form."""
        files = {name: {"bytes": entry.bytes, "sha256": entry.sha256} for name, entry in self.files.items()}
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "made_from": dict(self.made_from),
            "facts": dict(self.facts),
            "files": files,
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the manifest's bytes, which covers everything in the artifact."""
        return hashlib.sha256(canonical_json(sealed(self.to_json())).encode()).hexdigest()


def address_of(stage: str) -> str:
    """A stage's name for `dvc repro` at the root; the demo's stage is in another folder's dvc.yaml."""
    return next(address for address in PRODUCER.values() if address.rpartition(":")[2] == stage)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """JSON text with sorted keys, two spaces of indent and a last newline: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value with the SHA-256 of its canonical JSON added."""
    return {**value, SEAL: hashlib.sha256(canonical_json(dict(value)).encode()).hexdigest()}


def _new_beside(path: Path) -> Path:
    """A new, empty file in the same folder, as readable as the umask lets new files be (tempfile's are the owner's alone)."""
    while True:
        new = path.with_name(f".{path.name}.{secrets.token_hex(4)}{path.suffix}")
        with suppress(FileExistsError):
            os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            return new


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path in `path`'s folder to write to; renamed to `path` if the block succeeds, else removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _new_beside(path)
    mode = stat.S_IMODE(temporary.stat().st_mode)
    try:
        yield temporary
        temporary.chmod(mode)  # after the block, because some writers replace the file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as canonical JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(canonical_json(value), encoding="utf-8")


def read_json(path: Path, most_bytes: int = MOST_JSON_BYTES) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing, larger than `most_bytes`, nested too deeply, or not JSON.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    if path.stat().st_size > most_bytes:
        raise UserError(
            f"{path} has {path.stat().st_size:,} bytes; a JSON file here has at most {most_bytes:,}"
        )
    return parse_json(path.read_bytes(), str(path))


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file with a checksum of its content."""
    write_json(path, sealed(value))


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a file written by `write_sealed`.

    Raises:
        UserError: it is missing, not JSON, or any byte of it was changed.
    """
    return unsealed(_read_object(path), path)


def _read_object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object")
    return value


def unsealed(value: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The content of a sealed value read from `path`; UserError if it or the file's format was changed."""
    content = {name: inner for name, inner in value.items() if name != SEAL}
    try:
        whole = path.read_bytes() == canonical_json(sealed(content)).encode()
    except ValueError:  # text that UTF-8 cannot encode was not written by us
        whole = False
    if not whole:
        raise UserError(f"{path} was changed: its content does not match its checksum")
    return content


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast("Any", kind))


def validated(kind: type[T], value: Any, where: str) -> T:
    """A JSON value as a dataclass, with strict type checks: see `parsed`."""
    return parsed(kind, json.dumps(value), where)


def facts_of(kind: type[T], manifest: "Manifest") -> T:
    """An artifact's facts as a dataclass; UserError names the first missing fact or wrong type."""
    try:
        return validated(kind, manifest.facts, f"the facts of {manifest.kind}")
    except UserError as error:
        raise UserError(f"{error}: run `dvc repro {PRODUCER[manifest.kind]}`") from error


def parsed(kind: type[T], text: str | bytes, where: str) -> T:
    """JSON text as a dataclass, or any type that pydantic reads, with strict type checks.

    Raises:
        UserError: it is not JSON, or a value does not fit; the error names the first one.
    """
    try:
        found: T = _adapter(cast("Hashable", kind)).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{where}: {f'{name}: ' if name else ''}{first['msg']}") from error
    return found


def write_manifest(
    folder: Path, kind: str, facts: Mapping[str, Any], made_from: Mapping[str, str]
) -> Manifest:
    """Hash every file below `folder` and write its `manifest.json`; the last step of making an artifact."""
    assert kind in PRODUCER, kind
    assert not (folder / HOME).exists(), folder
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)
    files = {
        path.relative_to(folder).as_posix(): FileEntry(path.stat().st_size, sha256_file(path))
        for path in paths
    }
    manifest = Manifest(kind, dict(made_from), json.loads(canonical_json(dict(facts))), files)
    write_sealed(folder / NAME, manifest.to_json())
    return manifest


def read_manifest(folder: Path, kind: str) -> Manifest:
    """Read the manifest of an artifact of the given kind and check its files: sizes, and except for tars every byte.

    A tar may have gigabytes; `verify_file` checks it where its samples are read. Tars that are elsewhere are not looked at.

    Raises:
        UserError: no such folder or manifest, another kind, another schema, or a missing or changed file.
    """
    remake = f"run `dvc repro {PRODUCER[kind]}`"
    if not (folder / NAME).is_file():
        raise UserError(f"{folder} holds no finished artifact ({NAME} is missing): {remake}")
    value = _schema_checked(folder, remake)
    if value.get("kind") != kind:
        raise UserError(
            f"{folder} is an artifact of kind {str(value.get('kind'))[:80]}, expected {kind}: {remake}"
        )
    try:
        manifest = validated(Manifest, unsealed(value, folder / NAME), str(folder / NAME))
    except UserError as error:
        raise UserError(f"{error}: {remake}") from error
    near = beside(folder, manifest.kind, manifest.files)
    for name, entry in near.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != entry.bytes:
            told = "is missing" if size is None else f"has {size:,} bytes"
            raise UserError(f"{path} {told}, but its manifest says {entry.bytes:,} bytes: {remake}")
    for name, entry in near.items():
        if not name.endswith(STREAMED) and (not name.endswith(MAPPED) or entry.bytes <= MOST_HASHED):
            verify_file(folder, manifest, name)
    return manifest


def _schema_checked(folder: Path, remake: str = "make it again with `dvc repro`") -> dict[str, Any]:
    """The content of a folder's manifest, of which only the schema is checked; `remake` is the end of an error."""
    try:
        value = _read_object(folder / NAME)
    except UserError as error:
        raise UserError(f"{error}: {remake}") from error
    if value.get("schema") != SCHEMA:
        raise UserError(
            f"{folder / NAME} has schema {str(value.get('schema'))[:20]}, but this version reads {SCHEMA}: "
            "make it again with `dvc repro`, or read it with the version that wrote it (decision 0041: how to keep a model)"
        )
    return value


def kind_of(folder: Path) -> str:
    """An artifact's kind, from its manifest.

    Raises:
        UserError: no artifact, another schema, or an unknown kind.
    """
    if not (folder / NAME).is_file():
        raise UserError(f"{folder} holds no artifact ({NAME} is missing); expected a folder below artifacts/")
    kind = str(_schema_checked(folder).get("kind"))[:80]
    if kind not in PRODUCER:
        raise UserError(f"{folder / NAME} is of kind {kind}; expected one of {', '.join(PRODUCER)}")
    return kind


def verify_file(folder: Path, manifest: Manifest, name: str, there: Path | None = None) -> None:
    """Check one file's SHA-256 against the manifest, reading it once.

    Args:
        folder: of the artifact.
        manifest: its manifest.
        name: the file's name there.
        there: the file, if it is not in the folder.

    Raises:
        UserError: it is missing, is not in the manifest, or its bytes differ.
    """
    remake = f"run `dvc repro {PRODUCER[manifest.kind]}`"
    path, entry = there or folder / name, manifest.files.get(name)
    if entry is None:
        raise UserError(f"{path} is not in its manifest: {remake}")
    if not path.is_file():
        raise UserError(f"{path} is missing: {remake}")
    found = sha256_file(path)
    if found != entry.sha256:
        raise UserError(f"{path} was changed: SHA-256 {found[:12]}…, expected {entry.sha256[:12]}…: {remake}")


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Check the SHA-256 of every file in its folder against the manifest; UserError names a file whose bytes differ."""
    for name in beside(folder, manifest.kind, manifest.files):
        verify_file(folder, manifest, name)
