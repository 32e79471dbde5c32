"""No way in: nothing that is read runs code, leaves its folder, takes all memory, or speaks as markup."""

import gzip
import io
import pickle
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import numpy as np

from models.mqvae import MQVAE
from shards.images import decode
from shards.making.sources import list_source
from shards.text import TextTokenizer
from shards.tokens.blocks import read_token_shard
from tests.hostile.pictures import BLACK_1_BIT, PNG, png
from tests.hostile.table import ROOT, Case, World
from workflow.params import load_params
from workspace.exact.manifest import read_json, write_json
from workspace.exact.tar import TarWriter, iterate_tar


class Bomb:
    """Pickled, it would write a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def guarded(work: Callable[[World, Path], str]) -> Callable[[World, Path], str]:
    """Says so where a case got a file written that must not be."""

    def one(world: World, folder: Path) -> str:
        told = work(world, folder)
        return "IT RAN" if (folder / "ran").exists() else told

    return one


def pickled_weights(world: World, folder: Path) -> str:
    """A pickle in the place of the safetensors file."""
    shutil.copytree(world.artifact("mqvae"), folder / "mqvae")
    (folder / "mqvae" / "model.safetensors").write_bytes(pickle.dumps(Bomb(folder / "ran")))
    try:
        MQVAE.from_pretrained(folder / "mqvae")
    except ValueError as error:
        return f"refused: {str(error).split('/')[-1]}"
    return "read"


def object_array(world: World, folder: Path) -> str:
    """An npy member whose values are pickled objects."""
    made = io.BytesIO()
    np.save(made, np.array([[Bomb(folder / "ran")]], object), allow_pickle=True)
    return _block(world, folder, made.getvalue())


def huge_array(world: World, folder: Path) -> str:
    """An npy header that claims a petabyte."""
    made = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        made, {"descr": "<u2", "fortran_order": False, "shape": (1 << 24, 1 << 25)}
    )
    return _block(world, folder, made.getvalue() + b"\0\0")


def _block(world: World, folder: Path, codes: bytes) -> str:
    mask = io.BytesIO()
    np.save(mask, np.zeros((1, 1), np.uint8))
    with TarWriter(folder / "0.tar") as tar:
        for name, data in (("codes.npy", codes), ("kept.npy", mask.getvalue()), ("keys.json", b'["a"]')):
            tar.add(f"a.{name}", data)
    return world.told(lambda: list(read_token_shard(folder / "0.tar")))


def source(text: str) -> Callable[[World, Path], str]:
    """A source of tars that is a command or a URL."""
    return lambda world, folder: world.told(lambda: list_source("webdataset", text.format(folder=folder)))


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", foreign: bool = False
) -> Callable[[World, Path], str]:
    """A tar with one member of a kind, of ours or of a user's own."""

    def one(world: World, folder: Path) -> str:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, len(PNG) if kind == tarfile.REGTYPE else 0
        with tarfile.open(folder / "0.tar", "w") as tar:
            tar.addfile(info, io.BytesIO(PNG))
        read = (
            (lambda: list_source("webdataset", str(folder / "0.tar")))
            if foreign
            else (lambda: list(iterate_tar(folder / "0.tar")))
        )
        return world.told(read)  # type: ignore[arg-type]

    return one


def sparse(world: World, folder: Path) -> str:
    """A GNU sparse member that claims a terabyte."""
    info = tarfile.TarInfo("a.png")
    info.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"%011o\0" % (1 << 32)
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    (folder / "0.tar").write_bytes(bytes(block) + bytes(1024))
    return world.told(lambda: list(iterate_tar(folder / "0.tar")))


def zipped(world: World, folder: Path) -> str:
    """A gzipped tar: only plain ones are read, so that nothing unpacks to more than it is."""
    (folder / "0.tar").write_bytes(gzip.compress(bytes(10240)))
    return world.told(lambda: list(iterate_tar(folder / "0.tar")))


def huge_json(world: World, folder: Path) -> str:
    """A sparse JSON file of a terabyte."""
    with (folder / "x.json").open("wb") as file:
        file.truncate(1 << 40)
    return world.told(lambda: read_json(folder / "x.json"))


def text_json(text: str) -> Callable[[World, Path], str]:
    """A JSON file with this text."""

    def one(world: World, folder: Path) -> str:
        (folder / "x.json").write_text(text)
        return world.told(lambda: read_json(folder / "x.json"))

    return one


def params(old: str, new: str) -> Callable[[World, Path], str]:
    """params.yaml with a line changed."""

    def one(world: World, folder: Path) -> str:
        text = (world.root / "params.yaml").read_text(encoding="utf-8")
        assert old in text
        path = folder / "params.yaml"
        path.write_text(text.replace(old, new.format(folder=folder), 1), encoding="utf-8")
        return world.told(lambda: load_params(path))

    return one


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


def huge_params(world: World, folder: Path) -> str:
    """A params file of 300 kB."""
    (folder / "params.yaml").write_text("# " + "x" * 300_000)
    return world.told(lambda: load_params(folder / "params.yaml"))


def bomb_in_a_shard(world: World, folder: Path) -> str:
    """A sample of 20000 × 20000 pixels."""
    return world.told(lambda: decode("0000001", {"png": png(BLACK_1_BIT, 20000, 20000, 1, 0)}))


def tokenizer(change: Callable[[dict], object]) -> Callable[[World, Path], str]:
    """A text tokenizer with another pipeline than ours."""

    def one(world: World, folder: Path) -> str:
        path = folder / "text_tokenizer.json"
        TextTokenizer.train(["a cat", "a dog"], 300).save(path)
        value = read_json(path)
        change(value)
        write_json(path, value)
        return world.told(lambda: TextTokenizer.load(path))

    return one


def shown_names(world: World, folder: Path) -> str:
    """Class names, a title and captions with markup, in the report."""
    from reporting.page import read_report
    from reporting.web.rendering import render
    from tests.reporting.artifacts import make_sources

    names = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "</title><svg onload=alert(3)>")
    made = {
        name: render(
            read_report(make_sources(folder / name, given).sources, given[2], samples=36, examples=6)
        )
        for name, given in (("loud", names), ("plain", ("circle", "square", "star")))
    }
    page = made["loud"]
    loud = [word for word in ("<script>alert", "<img src=x", "<svg onload") if word in page]
    own = page.count("<script") == made["plain"].count("<script")
    policy = "default-src 'none'" in page and "'unsafe-inline'" not in page
    return f"{'no script but' if own else 'more than'} the page's own, {'no' if policy else 'any'} inline script allowed, loud: {loud}"


def stranger(world: World, folder: Path) -> str:
    """A TorchScript file that is not clean-fid's, in a reference that says inception."""
    import torch

    from evaluation.features.extractors import load_extractor

    (folder / "reference").mkdir()
    write_json(folder / "reference" / "extractor.json", {"name": "inception"})
    (folder / "reference" / "inception-2015-12-05.pt").write_bytes(b"PK\x03\x04 a stranger's program")
    return world.told(lambda: load_extractor(folder / "reference", torch.device("cpu")))


def stranger_installed(world: World, folder: Path) -> str:
    """The same, named in params."""
    from evaluation.features.extractors import install_pretrained

    (folder / "x.pt").write_bytes(b"PK\x03\x04 a stranger's program")
    return world.told(lambda: install_pretrained("inception", folder / "x.pt", None, folder / "out"))


def shell_in_a_path(world: World, folder: Path) -> str:
    """A source whose name is a command."""
    name = "$(touch ran); touch ran #`touch ran`"
    (folder / name).mkdir()
    (folder / name / "a.png").write_bytes(PNG)
    with chdir(folder):
        return f"{len(list_source('folder', name).images)} image"


def head_is_loopback(world: World, folder: Path) -> str:
    """Which address is asked for when a Ray head is started, and that its token is not an argument."""
    text = (ROOT / "cluster" / "head.py").read_text(encoding="utf-8")
    return (
        "loopback, with a token"
        if "--node-ip-address=127.0.0.1" in text and '"RAY_AUTH_MODE": "token"' in text
        else "open"
    )


def secrets(world: World, folder: Path) -> str:
    """A token as the head makes it: who can read it, and whether any file of the world holds it."""
    from cluster import head

    with chdir(world.root):
        head._make_token()
        mode, token = head.TOKEN.stat().st_mode & 0o777, head.TOKEN.read_bytes()
        inside = [
            path
            for path in world.root.rglob("*")
            if path.is_file() and path.name != "ray_token" and token in path.read_bytes()
        ]
        said = head.token_environment()
        head.TOKEN.unlink()
    assert token.decode() not in " ".join(said.values())
    return f"mode {mode:o}, in {len(inside)} other files"


def quiet(world: World, folder: Path) -> str:
    """A stage under a guard that ends it at a connection to anywhere but here, and at a listener for others."""
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.hostile.guard import install; install()\n"
        "from shards.verify import verify; from pathlib import Path\n"
        "print(verify(Path('artifacts/shards')))\n"
        "import socket\n"
        "try: socket.create_connection(('192.0.2.1', 80), timeout=1)\n"
        "except PermissionError as error: print('guard:', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=world.root, capture_output=True, text=True, check=True
    )
    assert "are intact" in done.stdout, done
    return done.stdout.splitlines()[-1]


def cases() -> list[Case]:
    """Every door."""
    group = "no way in"
    plain, leaves = (
        "is not a plain file (a link, a device, sparse): refused",
        "has a path that leaves its folder: refused",
    )
    command = "is a command or a chain of file systems, of which nothing is run: refused"
    return [
        Case("a pickle for weights", group, "in the place of model.safetensors", "holds a damaged model", guarded(pickled_weights)),
        Case("an object array among tokens", group, "npy with pickled values", "codes.npy is object, expected uint16", guarded(object_array)),
        Case("an array of a petabyte", group, "in the npy header alone", "bytes of values, not those of shape", huge_array),
        Case("pipe: as a source", group, "pipe:touch ran", command, guarded(source("pipe:touch {folder}/ran"))),
        Case("a chain of file systems as a source", group, "filecache::https://…", command, source("filecache::https://192.0.2.1/0.tar")),
        Case("a scheme that runs commands as a source", group, "ssh://…", "ssh:// is not opened", source("ssh://host/0.tar")),
        Case("a password in a URL as a source", group, "s3://KEY:SECRET@…", "holds credentials, which would be kept", source("s3://key:secret@bucket/0.tar")),
        Case("a tar member with an absolute path", group, "/etc/x.png", leaves, member("/etc/x.png")),
        Case("a tar member with ..", group, "a/../../x.png", leaves, member("a/../../x.png")),
        Case("a tar member that is a symbolic link", group, "→ /etc/passwd", plain, member("a.png", tarfile.SYMTYPE, "/etc/passwd")),
        Case("a tar member that is a hard link", group, "→ b.png", plain, member("a.png", tarfile.LNKTYPE, "b.png")),
        Case("a tar member that is a device", group, "a character device", plain, member("a.png", tarfile.CHRTYPE)),
        Case("a tar member that is a FIFO", group, "a FIFO", plain, member("a.png", tarfile.FIFOTYPE)),
        Case("a sparse tar member", group, "4 GiB in 512 bytes", "refused: ", sparse),
        Case("the same in a user's own tars: ..", group, "kind webdataset", leaves, member("../a.png", foreign=True)),
        Case("the same in a user's own tars: a link", group, "kind webdataset", plain, member("a.png", tarfile.SYMTYPE, "/etc/passwd", foreign=True)),
        Case("a gzipped tar", group, "bytes that unpack to more", "is missing or damaged", zipped),
        Case("JSON of a terabyte", group, "sparse", "a JSON file here has at most", huge_json),
        Case("JSON nested 100,000 deep", group, "in an artifact", "is nested deeper than 32 levels", text_json("[" * 100_000)),
        Case("JSON nested 40 deep", group, "what Python would still read", "is nested deeper than 32 levels", text_json("[" * 40 + "]" * 40)),
        Case("JSON with a number of 10,000 digits", group, "9999…", "is not JSON", text_json("9" * 10_000)),
        Case("JSON with NaN", group, "NaN", "NaN is not a JSON number", text_json("[NaN]")),
        Case("YAML that builds an object", group, "!!python/object/apply:os.system", "is not YAML", guarded(params("kind: shapes ", "kind: !!python/object/apply:os.system ['touch {folder}/ran'] "))),
        Case("YAML of a billion laughs", group, "aliases of aliases", "holds more than 100,000 values", params("shapes:  ", LAUGHS + "shapes:  ")),
        Case("YAML that holds itself", group, "&a [*a]", "nests them deeper", params("kind: shapes ", "kind: &a [*a] ")),
        Case("params of 300 kB", group, "a comment", "expected at most 262,144", huge_params),
        Case("a rate that is not finite", group, "learning_rate: .inf", "holds a number that is not finite", params("learning_rate: 1.0e-3", "learning_rate: .inf")),
        Case("a decompression bomb in a shard", group, "20000 × 20000 pixels", "is damaged (DecompressionBombError: Image size (400000000 pixels)", bomb_in_a_shard),
        Case("a text tokenizer with a pattern of its own", group, "a Split by a regular expression", "is not one of our text tokenizers",
             tokenizer(lambda value: value.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}))),
        Case("a text tokenizer that is not a BPE", group, "a WordLevel model", "is not one of our text tokenizers",
             tokenizer(lambda value: value.update(model={"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}))),
        Case("markup in class names and title", group, "<script>, <img onerror>, <svg onload>", "no script but the page's own, no inline script allowed, loud: []", shown_names),
        Case("TorchScript in an artifact", group, "another file than clean-fid's", "refused: ", stranger),
        Case("TorchScript in params", group, "another file than clean-fid's", "is TorchScript, a program, and its SHA-256 is #", stranger_installed),
        Case("a command in a path", group, "$(touch ran); touch ran", "1 image", guarded(shell_in_a_path)),
        Case("a Ray head for others", group, "the address that is asked for", "loopback, with a token", head_is_loopback),
        Case("the Ray token", group, "as the head makes it", "mode 600, in 0 other files", secrets),
        Case("a connection to elsewhere", group, "under the guard of the tests", "guard: ", quiet),
    ]  # fmt: skip
