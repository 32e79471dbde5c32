"""Hostile inputs by the hundred thousand to every reader: only `UserError` may come out. `python -m tests.hostile.fuzz`.

A plain seeded mutator, aware of each format's structure: it takes whole inputs, changes bytes, lines, numbers, lengths and
JSON values, and where a checksum would stop it at the door makes the checksum right again, so that what lies behind is
reached. (hypothesis draws some hundred examples a second and this some thousand; atheris has no wheel for every Python that
we run on.) Memory is bounded: the process may map 1 GiB more than it has at the start. What once came out is kept in
corpus.json and tried first, for ever.
"""

import argparse
import base64
import io
import json
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shards.images import ImageShards, decode, read_shard
from shards.layouts.coco import coco_entries
from shards.layouts.listed import clean_caption
from shards.tokens import TokenFacts, TokenShards, check_block
from shards.tokens.blocks import read_token_shard
from tests import presets
from tests.hostile.mutations import changed, mutated
from tests.hostile.pictures import PNG, swapped_profile
from tests.hostile.results import write_results
from workflow.params import load_params
from workspace.errors import UserError
from workspace.exact.manifest import NAME, canonical_json, read_manifest, sealed
from workspace.exact.tar import TarWriter, iterate_tar
from workspace.progress import say

CORPUS = Path(__file__).with_name("corpus.json")
SPARE_BYTES = 1 << 30


@dataclass
class Target:
    """A reader.

    Attributes:
        name: of the reader.
        share: of all inputs.
        seeds: whole inputs.
        read: reads one input, in a folder of its own.
        structured: whether inputs are JSON whose values are changed too.
    """

    name: str
    share: float
    seeds: list[bytes]
    read: Callable[[Path, bytes], object]
    structured: bool = False
    found: list[bytes] = field(default_factory=list)


def drawn(target: Target, generator: random.Random) -> bytes:
    """The next input of a target."""
    seed = generator.choice(target.seeds)
    if target.structured and generator.random() < 0.6:
        value = json.loads(seed)
        for _ in range(1 + int(generator.expovariate(1.0))):
            value = changed(value, generator)
        return json.dumps(value).encode("utf-8", "surrogatepass")
    return mutated(seed, generator)


def tar_of(members: list[tuple[str, bytes]]) -> bytes:
    """A tar's bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.tar")
        with TarWriter(path) as tar:
            for name, data in members:
                tar.add(name, data)
        return path.read_bytes()


def npy(values: Any, dtype: str) -> bytes:
    """An npy file."""
    made = io.BytesIO()
    np.save(made, np.asarray(values, dtype))
    return made.getvalue()


TOKEN_FACTS = TokenFacts((2, 4), 16, 3, ("cat", "dog"), 2, 300, {"train": 2, "val": 0}, "adaptive", "0" * 64)
BLOCK = [
    ("a.codes.npy", npy([[1, 2, 3], [4, 5, 15]], "<u2")),
    ("a.kept.npy", npy([[0b11100000], [0b10100001]], "u1")),
    ("a.cls.npy", npy([0, 1], "<u2")),
    ("a.text.npy", npy([[[1, 2]], [[3, 0]]], "<u2")),
    ("a.caption_count.npy", npy([1, 1], "u1")),
    ("a.keys.json", b'["k0", "k1"]'),
]
IMAGE_FACTS = {
    "kind": "folder", "image_size": 32, "format": "png", "classes": ["cat"], "captions": True, "attributes": {"colour": ["red"]},
    "masks": False, "counts": {"train": 1, "val": 0}, "shards": {"train": [1], "val": []},
}  # fmt: skip
SAMPLE = [
    ("1.png", PNG),
    ("1.cls", b"0"),
    ("1.txt", b"a cat\na dog"),
    ("1.attributes.json", b'{"colour": "red"}'),
]
COCO = {
    "info": {}, "images": [{"id": 1, "file_name": "a.jpg"}, {"id": "b", "file_name": "b.jpg"}],
    "annotations": [{"image_id": 1, "id": 3, "caption": "a cat"}, {"image_id": "b", "caption": "größer"}],
}  # fmt: skip


def read_params(folder: Path, data: bytes) -> None:
    """As every stage does; a base is there."""
    shutil.copyfile(presets.FOLDER / "shapes.yaml", folder / "shapes.yaml")
    (folder / "params.yaml").write_bytes(data)
    load_params(folder / "params.yaml")


def read_manifests(folder: Path, data: bytes) -> None:
    """As it is; and where it is a JSON object, sealed anew, so that what lies behind the seal is reached."""
    (folder / NAME).write_bytes(data)
    for kind, open_ in (("token-shards", TokenShards.open), ("image-shards", ImageShards.open)):
        try:
            open_(folder)
        except UserError:
            pass
        else:
            read_manifest(folder, kind)
    try:
        value = json.loads(data)
        text = canonical_json(sealed({key: inner for key, inner in value.items() if key != "checksum"}))
        (folder / NAME).write_bytes(text.encode())
    except (ValueError, AttributeError, RecursionError, TypeError):
        return
    (ImageShards if value.get("kind") == "image-shards" else TokenShards).open(folder)


def read_tar(folder: Path, data: bytes) -> None:
    """Members alone, and as samples of images."""
    (folder / "x.tar").write_bytes(data)
    list(iterate_tar(folder / "x.tar"))
    list(read_shard(folder / "x.tar"))


def read_block(folder: Path, data: bytes) -> None:
    """One tar of token blocks, held against the facts."""
    (folder / "x.tar").write_bytes(data)
    for block in read_token_shard(folder / "x.tar"):
        check_block(block, TOKEN_FACTS, "x.tar")


def read_member(folder: Path, data: bytes) -> None:
    """A member of a block with an honest tar around it: which one, the first byte says."""
    name, _ = BLOCK[data[0] % len(BLOCK)] if data else BLOCK[0]
    with TarWriter(folder / "x.tar") as tar:
        for other, whole in BLOCK:
            tar.add(other, data[1:] if other == name else whole)
    read_block(folder, (folder / "x.tar").read_bytes())


def read_sample(folder: Path, data: bytes) -> None:
    """A member of a sample of images, likewise."""
    name, _ = SAMPLE[data[0] % len(SAMPLE)] if data else SAMPLE[0]
    decode("1", {other.partition(".")[2]: data[1:] if other == name else whole for other, whole in SAMPLE})


def read_caption(folder: Path, data: bytes) -> None:
    """Any text: one line comes out, that UTF-8 holds, and coming again changes nothing."""
    for errors in ("replace", "surrogateescape", "surrogatepass"):
        try:
            text = data.decode("utf-8", errors)
        except UnicodeDecodeError:
            continue
        made = clean_caption(text)
        assert len(made.encode().decode().splitlines()) <= 1 and clean_caption(made) == made, "not one line"


def read_coco_json(folder: Path, data: bytes) -> None:
    """A captions file."""
    deque(coco_entries(iter([data[:50], data[50:]]), "captions_train2017.json"), maxlen=0)


def manifest(kind: str, facts: Any) -> bytes:
    """A sealed manifest without files."""
    value = {"schema": 3, "kind": kind, "made_from": {"mqvae": "0" * 64}, "facts": facts, "files": {}}
    return canonical_json(sealed(value)).encode()


def targets() -> list[Target]:
    """Every reader, with whole inputs."""
    token_facts = json.loads(json.dumps(TOKEN_FACTS.__dict__))
    params = [presets.text(path.stem).encode() for path in presets.FILES] + [
        path.read_bytes() for path in presets.FILES
    ]
    captions = ["a cat on a mat", "חתול 🐈‍⬛", "a\u2028b\x85c\x00", "x" * 300]
    profiled = io.BytesIO()
    from PIL import Image

    Image.open(io.BytesIO(PNG)).save(profiled, "png", icc_profile=swapped_profile())
    return [
        Target("params", 0.01, params, read_params),
        Target("manifests", 0.08, [manifest("token-shards", token_facts), manifest("image-shards", IMAGE_FACTS)], read_manifests, True),
        Target("tar members", 0.1, [tar_of(SAMPLE), tar_of(BLOCK)], read_tar),
        Target("samples", 0.3, [bytes([n]) + data for n, (_, data) in enumerate(SAMPLE)] + [b"\0" + profiled.getvalue()], read_sample),
        Target("token blocks", 0.05, [tar_of(BLOCK)], read_block),
        Target("members of blocks", 0.05, [bytes([n]) + data for n, (_, data) in enumerate(BLOCK)], read_member),
        Target("captions", 0.26, [text.encode() for text in captions], read_caption),
        Target("COCO JSON", 0.15, [json.dumps(COCO).encode(), json.dumps(COCO, ensure_ascii=False, indent=1).encode()], read_coco_json, True),
    ]  # fmt: skip


def escapes(target: Target, folder: Path, data: bytes) -> str:
    """What came out of a reader other than UserError, or ""."""
    try:
        with redirect_stderr(io.StringIO()):
            target.read(folder, data)
    except UserError:
        return ""
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {str(error)[:200]}"
    return ""


def corpus() -> list[tuple[str, bytes]]:
    """What once came out: the reader's name and the input."""
    return [
        (row["target"], base64.b64decode(row["input"]))
        for row in json.loads(CORPUS.read_text(encoding="utf-8"))
    ]


def bounded() -> None:
    """Let this process map a gibibyte more than it has."""
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES, resource.RLIM_INFINITY))


def fuzz(
    count: int, seed: int, told: Callable[[str], None]
) -> tuple[dict[str, int], dict[str, tuple[str, bytes]]]:
    """So many inputs: how many each reader had, and one input for each way in which something came out."""
    place, counts, out = (
        Path(tempfile.mkdtemp(prefix="fuzz-")),
        dict[str, int](),
        dict[str, tuple[str, bytes]](),
    )
    try:
        for target in targets():
            generator, began = random.Random(f"{seed}/{target.name}"), time.monotonic()
            inputs = [data for name, data in corpus() if name == target.name]
            for number in range(max(1, round(count * target.share))):
                data = inputs[number] if number < len(inputs) else drawn(target, generator)
                escaped = escapes(target, place, data)
                if escaped and (target.name, escaped.split(":")[0]) not in {
                    (t, e.split(":")[0]) for e, (t, _) in out.items()
                }:
                    out[f"{escaped}"] = (target.name, data)
                counts[target.name] = number + 1
            told(
                f"{target.name}: {counts[target.name]:,} inputs, {counts[target.name] / (time.monotonic() - began):,.0f} a second"
            )
    finally:
        shutil.rmtree(place)
    return counts, out


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=210_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="put what comes out into corpus.json")
    asked = parser.parse_args()
    targets()
    bounded()
    counts, out = fuzz(asked.inputs, asked.seed, say)
    for escaped, (name, data) in out.items():
        say(f"{name}: {escaped}: {data[:120]!r}")
    if asked.keep:
        rows = json.loads(CORPUS.read_text(encoding="utf-8"))
        rows += [
            {"target": name, "was": escaped, "input": base64.b64encode(data).decode()}
            for escaped, (name, data) in out.items()
        ]
        CORPUS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {"inputs": sum(counts.values()), "escaped": len(out), "seed": asked.seed, "by_reader": counts}
    write_results("fuzz.json", found | {"peak_bytes": peak, "corpus": len(corpus())}, "make fuzz")
    if out:
        sys.exit(f"{len(out)} kinds of errors came out that are not ours")


if __name__ == "__main__":
    main()
