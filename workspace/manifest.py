"""What an artifact says of itself: kind, facts, what it was made from, and a checksum for each of its files.

Every artifact folder holds a `manifest.json` (DESIGN section 3). Equal inputs give equal bytes, so no time, host or
absolute path stands in it; its SHA-256 is the artifact's fingerprint, which the next artifact records as `made_from`.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workspace.errors import UserError

SCHEMA = 1
NAME = "manifest.json"
MAX_JSON_BYTES = 1 << 30

PRODUCER = {
    "shapes": "draw_shapes",
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
"""Each kind of artifact → the stage that makes it, for the errors that say what to run."""


@dataclass(frozen=True)
class FileEntry:
    """One file of an artifact: its size in bytes and its SHA-256 in hex."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
        kind: one of the keys of `PRODUCER`.
        made_from: name of each input → its fingerprint.
        facts: JSON values that the artifact's readers need (counts, sizes, class names).
        files: path relative to the folder, with `/`, → its entry.
    """

    kind: str
    made_from: Mapping[str, str]
    facts: Mapping[str, Any]
    files: Mapping[str, FileEntry]

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON values, in the form that is written."""
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
        """SHA-256 (hex) of the manifest's bytes, and so of everything in the artifact."""
        return hashlib.sha256(canonical_json(self.to_json()).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """JSON text with sorted keys, two spaces of indent and a last newline: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it is renamed to `path` if the block ends well, else removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # after the block: some writers make the file anew
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as canonical JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(canonical_json(value), encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing, larger than 1 GiB, or not JSON.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise UserError(
            f"{path} has {path.stat().st_size:,} bytes; a JSON file here has at most {MAX_JSON_BYTES:,}"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error


def write_manifest(
    folder: Path, kind: str, facts: Mapping[str, Any], made_from: Mapping[str, str]
) -> Manifest:
    """Hash every file below `folder` and write its `manifest.json`; the last thing done to an artifact."""
    assert kind in PRODUCER, kind
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)
    files = {
        path.relative_to(folder).as_posix(): FileEntry(path.stat().st_size, sha256_file(path))
        for path in paths
    }
    manifest = Manifest(kind, dict(made_from), json.loads(canonical_json(dict(facts))), files)
    write_json(folder / NAME, manifest.to_json())
    return manifest


def read_manifest(folder: Path, kind: str) -> Manifest:
    """Read and check the manifest of an artifact of the given kind (sizes, not checksums: see `verify_files`).

    Raises:
        UserError: no such folder or manifest, another kind, a newer schema, a file missing or of another size.
    """
    remake = f"run `dvc repro {PRODUCER[kind]}`"
    if not (folder / NAME).is_file():
        raise UserError(f"{folder} holds no finished artifact ({NAME} is missing): {remake}")
    value = read_json(folder / NAME)
    if value.get("schema") != SCHEMA:
        raise UserError(
            f"{folder / NAME} has schema {value.get('schema')}, this version reads {SCHEMA}: {remake}"
        )
    if value["kind"] != kind:
        raise UserError(f"{folder} is an artifact of kind {value['kind']}, expected {kind}: {remake}")
    files = {name: FileEntry(**entry) for name, entry in value["files"].items()}
    for name, entry in files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != entry.bytes:
            found = "is missing" if size is None else f"has {size:,} bytes"
            raise UserError(f"{path} {found}, its manifest says {entry.bytes:,} bytes: {remake}")
    return Manifest(kind, value["made_from"], value["facts"], files)


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Check every file's SHA-256 against the manifest.

    Raises:
        UserError: a file whose bytes differ.
    """
    for name, entry in manifest.files.items():
        found = sha256_file(folder / name)
        if found != entry.sha256:
            remake = f"run `dvc repro {PRODUCER[manifest.kind]}`"
            raise UserError(
                f"{folder / name} was changed: SHA-256 {found[:12]}…, expected {entry.sha256[:12]}…: {remake}"
            )
