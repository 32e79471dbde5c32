"""What newcomers bring: pictures inside other files, pointers in their place, paths as a shell knows them, machines."""

import gzip
import os
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from contextlib import chdir
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from pipelines.home import somebody
from shards.pack_tokens import pack
from shards.token_sets import Choice, subset
from shards.tokens import TokenShards, unpack_positions
from tests.field import token_rows
from tests.field.laid_out import lay, taken, turned_away, turned_away_at
from tests.field.place import Place, picture_bytes
from tests.field.table import Field, Row
from tests.field.token_rows import bad, packed
from tests.field.token_rows import refused as told_of
from tests.hostile.table import ROOT
from training.mqvae.batches import keep_sockets_short
from workflow.lacking import missing
from workflow.params import load_params
from workflow.preset import rendered, require_repository
from workspace.errors import UserError
from workspace.exact.manifest import write_json
from workspace.fingerprints import input_fingerprint

HOLDS = "Data: pictures inside other files, and files in the place of pictures"
PATHS = "Paths as they are typed"
TOKENS = token_rows.AREA
TYPED = "Settings as they are typed"
MACHINES = "Machines: containers, batch systems, shared disks"
Outcome = Callable[[Field, Path], str]
EIGHT = [f"{number}.png" for number in range(8)]
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"


def nothing(*names: str) -> Outcome:
    """The line in which a folder of such files alone is refused."""
    return lambda field, folder: turned_away(folder, [], dict.fromkeys(names, b"x"))


def beside(texts: Mapping[str, str | bytes]) -> Outcome:
    """What is made of eight pictures and other files."""
    return lambda field, folder: taken(folder, EIGHT, texts)


def table_of(cell: str) -> str:
    """A CSV of labels whose third column holds the same cell everywhere."""
    return "file,label,embedding\n" + "".join(
        f"{name},{'ab'[n % 2]},{cell}\n" for n, name in enumerate(EIGHT)
    )


def in_their_place(*texts: str, good: int = 0) -> Outcome:
    """Files named .png of these texts, with good pictures; what `shard` says."""

    def outcome(field: Field, folder: Path) -> str:
        source = folder / "photographs"
        source.mkdir()
        for number, text in enumerate(texts):
            (source / f"{number}.png").write_text(text, encoding="utf-8")
        for number in range(good):
            (source / f"good{number}.png").write_bytes(picture_bytes(number))
        place = Place.of(folder, source, max_bad_fraction=0.4)
        return place.run().said

    return outcome


def links_to_nothing(field: Field, folder: Path) -> str:
    """git-annex's links in a clone without the content, in a class folder's place."""
    (folder / "data").mkdir()
    for number in range(3):
        (folder / "data" / f"{number}.dat").symlink_to(f"../.git/annex/objects/{number}")
    return turned_away_at(folder / "data", folder)


def tar_of_tars(field: Field, folder: Path) -> str:
    with tarfile.open(folder / "train.tar", "w") as outer:
        for name in ("n01440764", "n01443537"):
            member = tarfile.TarInfo(f"{name}.tar")
            outer.addfile(member, BytesIO())
    return turned_away_at(folder / "train.tar", folder)


def spelt(source: str) -> Outcome:
    """What is said of a source of this spelling, where flowers/rose is: `~` and $PLACE are the folder."""

    def outcome(field: Field, folder: Path) -> str:
        lay(folder, ["flowers/rose/0.png", "flowers/rose/1.png"])
        with chdir(folder), mock.patch.dict(os.environ, HOME=str(folder), PLACE=str(folder)):
            return turned_away_at(source.replace("HERE", str(folder)), folder)

    return outcome


def asked_of_make(field: Field, folder: Path) -> str:
    """`make repro` looks at the same before DVC runs, at weights too."""
    lay(
        folder,
        ["flowers/rose/0.png"],
        {"Weights/squeezenet1_1.safetensors": b"", "Weights/lpips_squeeze_v0.1.safetensors": b""},
    )
    with chdir(folder):
        return missing(rendered("flowers", "flower", "weights", ROOT / "presets"), "params.yaml", "")


def input_misspelt(field: Field, folder: Path) -> str:
    (folder / "shards").mkdir()
    try:
        return input_fingerprint(folder / "Shard")
    except UserError as error:
        return str(error).replace(f"{folder}/", "")


def typed_for_make(field: Field, folder: Path) -> str:
    """What make types for a path with a quote, a dollar, a space and a percent sign."""
    lay(
        folder,
        [],
        {"Makefile": (ROOT / "Makefile").read_bytes(), "pyproject.toml": "", "constraints.txt": ""},
    )
    lay(folder, [], {".venv/installed": ""})  # later than both: nothing is installed
    path = "/data/it's $a 50%/flowers"
    command = [
        "make",
        "--dry-run",
        "--file",
        "Makefile",
        "preset",
        "PRESET=flowers",
        f"SOURCE={path}",
        f"WEIGHTS={path}",
    ]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    said = subprocess.run(command, cwd=folder, env=plain, capture_output=True, text=True, check=True).stdout
    words = shlex.split(next(line for line in said.splitlines() if "workflow.preset" in line))
    return f"{words[2:4]}; as typed: {[words[words.index(name) + 1] == path for name in ('--source', '--weights')]}"


def made_by_make(*variables: str) -> Outcome:
    """USER and HOME of what make starts, where the environment has only these."""

    def outcome(field: Field, folder: Path) -> str:
        shutil.copyfile(ROOT / "Makefile", folder / "Makefile")
        told = 'told:; @echo "$$USER and $$HOME"'
        command = [
            "env",
            "-i",
            f"PATH={os.environ['PATH']}",
            *variables,
            "make",
            "-s",
            "--eval",
            told,
            "told",
        ]
        said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
        user = somebody({}, folder)
        known = user["USER"], user["HOME"]
        return said.strip().replace(f"{known[0]} and {known[1]}", "the system's")

    return outcome


def nobody(field: Field, folder: Path) -> str:
    """What flows give DVC where the system knows no such user."""
    with mock.patch("pwd.getpwuid", side_effect=KeyError), mock.patch("os.getuid", return_value=12345):
        bare, own = somebody({}, folder), somebody({"USER": "me", "HOME": "/home/me"}, folder)
    return f"{bare}, {own}".replace(f"{folder}/", "")


def long_tmpdir(field: Field, folder: Path) -> str:
    """Loader processes below a TMPDIR of 120 characters hand over their tensors."""
    place = folder / ("x" * 120)
    place.mkdir()
    with mock.patch("tempfile.tempdir", str(place)):
        data = TensorDataset(torch.arange(8.0))
        loader = DataLoader(data, batch_size=4, num_workers=1, timeout=300, worker_init_fn=keep_sockets_short)
        found = [part.tolist() for (part,) in loader]
    return f"{found}"


def by_umask(field: Field, folder: Path) -> str:
    """The modes of a stage's files under two umasks."""
    modes = []
    for mask in (0o077, 0o002):
        before = os.umask(mask)
        try:
            write_json(folder / f"{mask}.json", {})
        finally:
            os.umask(before)
        modes.append(f"{(folder / f'{mask}.json').stat().st_mode & 0o777:o}")
    return f"{modes}, nothing else: {len(list(folder.iterdir())) == 2}"


def from_file(name: str, write: Callable[[Path], object]) -> Outcome:
    """What is said where the codes are in such a file."""

    def outcome(field: Field, folder: Path) -> str:
        write(folder / name)
        return told_of(lambda at: pack(at / name, at / name, at / "set", (4, 4), 16), folder)

    return outcome


def counted(count: int) -> Outcome:
    """A subset of so many images per split."""

    def outcome(field: Field, folder: Path) -> str:
        packed(folder, "a")
        return told_of(lambda at: subset(at / "a" / "set", at / "few", Choice(count=count)), folder)

    return outcome


def array_like(change: Callable[[np.ndarray], np.ndarray]) -> Outcome:
    """The same codes and positions in another memory order or dtype make the same set."""

    def outcome(field: Field, folder: Path) -> str:
        plain, other = packed(folder, "a"), packed(folder, "b", lambda c, p: (change(c), change(p)))
        prints = {TokenShards.open(made).manifest.fingerprint for made in (plain, other)}
        return f"the same set: {len(prints) == 1}"

    return outcome


def elsewhere(field: Field, folder: Path) -> str:
    """A set read-only, its files links into a store, below a link, is read by its README alone and by the library."""
    made = packed(folder, "a")
    for number, path in enumerate(sorted(path for path in made.rglob("*") if path.is_file())):
        path.rename(folder / str(number))
        path.symlink_to(folder / str(number))
    (folder / "link").symlink_to(made, target_is_directory=True)
    lines = (made / "README.md").read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    found: dict[str, Any] = {}
    with chdir(folder / "link"):
        exec(lines, found)
    block = TokenShards.open(folder / "link").load("train")
    places = unpack_positions(block.kept, 16, 6)
    return f"{len(block)} images, equal: {np.array_equal(found['codes'], block.codes) and np.array_equal(found['positions'], places)}"


def downloaded(config: str, git: bool) -> Outcome:
    """A folder with DVC's configuration and without, or with, Git's folder: what make looks for first."""

    def outcome(field: Field, folder: Path) -> str:
        lay(folder, [], {"code/.dvc/config": config})
        if git:
            (folder / ".git").mkdir()  # of a repository that holds this one in a folder
        try:
            require_repository(folder / "code")
        except UserError as error:
            return str(error)
        return "taken as it is"

    return outcome


def setting(text: str) -> Outcome:
    """What is said of --set TEXT."""

    def outcome(field: Field, folder: Path) -> str:
        try:
            load_params(field.world().root / "params.yaml", [text])
        except UserError as error:
            return str(error).rpartition("params.yaml: ")[2]
        return "taken"

    return outcome


ROWS: tuple[Row, ...] = (
    Row("arrays that hold the images", HOLDS, "x_train.npy, y_train.npy", "an array that holds the images is written to files first: `for i, x in enumerate(images)", nothing("x_train.npy", "y_train.npy")),
    Row("an HDF5 that holds the images", HOLDS, "data.h5", "an array that holds the images is written to files first", nothing("data.h5")),
    Row("MNIST's packed arrays", HOLDS, "train-images-idx3-ubyte.gz", "a packed file is unpacked first", nothing("train-images-idx3-ubyte.gz")),
    Row("an LMDB of images", HOLDS, "data.mdb, lock.mdb", "images in another program's records are written to files first, or to WebDataset's tars", nothing("data.mdb", "lock.mdb")),
    Row("TFRecords of images", HOLDS, "train-00000-of-00010.tfrecord", "images in another program's records are written to files first", nothing("train-00000-of-00010.tfrecord")),
    Row("videos alone", HOLDS, "a.mp4, b.mp4", "a video's frames are written to files first: `ffmpeg -i VIDEO", nothing("a.mp4", "b.mp4")),
    Row("datasets' Arrow files alone", HOLDS, "data-00000-of-00001.arrow, state.json", "is written to files first: `datasets` does so by", nothing("data-00000-of-00001.arrow", "state.json")),
    Row("DVC's pointer alone", HOLDS, "images.dvc", "the pictures are elsewhere: `dvc pull`, `git annex get .`, or mount their disk", nothing("images.dvc")),
    Row("git-annex's links alone", HOLDS, "links to nothing", "the pictures are elsewhere: `dvc pull`, `git annex get .`", links_to_nothing),
    Row("a tar of tars, as ImageNet comes", HOLDS, "train.tar with n01440764.tar in it", "tars within a tar, as ImageNet has them: unpack the outer one, then each into a folder of its class", tar_of_tars),
    Row("pointers of Git LFS in the place of pictures", HOLDS, "a clone without Git LFS", "3 a pointer of Git LFS, not the picture: `git lfs pull` fetches it", in_their_place(LFS, LFS, LFS)),
    Row("web pages in the place of pictures", HOLDS, "a download of pages that say 404", "2 a web page, not the picture: it was not downloaded", in_their_place("<!DOCTYPE html>\n<html>", "\n<html><head>", good=1)),
    Row("a store's errors in the place of pictures", HOLDS, "<Error>AccessDenied</Error>", "1 XML, not the picture: an SVG drawing, or a store's error", in_their_place("<?xml version='1.0'?><Error>AccessDenied</Error>", good=1)),
    Row("drawings in the place of pictures", HOLDS, "an SVG named .png", "1 an SVG drawing, which has no pixels", in_their_place("<svg xmlns='http://www.w3.org/2000/svg'/>", good=1)),
    Row("a table whose cells are longer than 128 KiB", HOLDS, "labels.csv with an embedding per image", "metadata: a 2+2, b 2+2; seen 8", beside({"labels.csv": table_of("1 " * 70_000)})),
    Row("a packed table beside the images", HOLDS, "labels.csv.gz", "labels.csv.gz: packed, and not read: unpack it to have its labels or captions", beside({"labels.csv.gz": gzip.compress(table_of("1").encode(), mtime=0)})),
    Row("~ in shard.source", PATHS, "~/flowers", "shard.source ~/flowers does not exist (did you mean flowers?); expected a folder", spelt("~/flowers")),
    Row("a variable in shard.source", PATHS, "$PLACE/flowers", "$PLACE/flowers does not exist (did you mean flowers?)", spelt("$PLACE/flowers")),
    Row("quotes around the path in shard.source", PATHS, "'flowers'", "'flowers' does not exist (did you mean flowers?)", spelt("'flowers'")),
    Row("a space at the end of the path", PATHS, "flowers and a space", "(did you mean flowers?)", spelt("flowers ")),
    Row("capitals that another file system ignores", PATHS, "Flowers/Rose", "(did you mean flowers/rose?)", spelt("Flowers/Rose")),
    Row("a slip in two folders of a path", PATHS, "flower/roses", "(did you mean flowers/rose?)", spelt("flower/roses")),
    Row("a path with backslashes", PATHS, r"flowers\rose", "(did you mean flowers/rose?)", spelt(r"flowers\rose")),
    Row("a path of Windows", PATHS, r"C:\pictures\x", r"shard.source C:\pictures\x does not exist; expected a folder", spelt(r"C:\pictures\x")),
    Row("a path of another user's", PATHS, "~nobody-here/flowers", "~nobody-here/flowers does not exist; expected a folder", spelt("~nobody-here/flowers")),
    Row("nothing near is there", PATHS, "cats", "shard.source cats does not exist; expected a folder", spelt("cats")),
    Row("make repro with slips in both paths", PATHS, "flower, weights; flowers and Weights are there", "images in flower (did you mean flowers?) and weights in weights/lpips_squeeze_v0.1.safetensors (did you mean Weights/lpips_squeeze_v0.1.safetensors?)", asked_of_make),
    Row("a stage's input that is misspelt", PATHS, "--shards Shard", "Shard does not exist (did you mean shards?)", input_misspelt),
    Row("make with a quote or a dollar in SOURCE", PATHS, "make preset SOURCE=\"/data/it's \\$a 50%/flowers\"", "['workflow.preset', 'flowers']; as typed: [True, True]", typed_for_make),
    Row("a user without a name in make", MACHINES, "docker run --user 1000: neither USER nor HOME", "the system's", made_by_make()),
    Row("a user's own name and home in make", MACHINES, "USER=me HOME=/home/me", "me and /home/me", made_by_make("USER=me", "HOME=/home/me")),
    Row("a user without a name in a flow: getpwuid(): uid not found", MACHINES, "uid 12345, unknown to the system", "{'USER': '12345', 'HOME': '.runs/home'}, {}", nobody),
    Row("a long TMPDIR: loader processes wait for ever", MACHINES, "a batch system's TMPDIR of 120 characters", "[[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]", long_tmpdir),
    Row("files that the umask closes are open", MACHINES, "umask 077 and 002", "['600', '664'], nothing else: True", by_umask),
    Row("codes in an npz", TOKENS, "np.savez(codes=…)", "it is an archive of codes, of which np.save('codes.npy', …) writes one", from_file("c.npz", lambda path: np.savez(path, codes=np.zeros((3, 2), int)))),
    Row("codes in a damaged npz", TOKENS, "the first bytes of a zip", "c.npz is not an npy file; expected codes, as np.save writes an array", from_file("c.npz", lambda path: path.write_bytes(b"PK\x03\x04"))),
    Row("codes in a CSV", TOKENS, "c.csv", "c.csv is not an npy file; expected codes, as np.save writes an array", from_file("c.csv", lambda path: path.write_text("1,2\n"))),
    Row("codes in a folder", TOKENS, "a folder", "codes is a folder; expected codes in an npy file", from_file("codes", Path.mkdir)),
    Row("codes in a file that is misspelt", TOKENS, "code.npy; codes.npy is there", "code.npy does not exist (did you mean codes.npy?); expected codes in an npy file", from_file("code.npy", lambda path: np.save(path.with_name("codes.npy"), np.zeros((3, 2), int)))),
    Row("positions as a mask of the grid", TOKENS, "bool [40, 16]", "positions.npy is bool; expected whole numbers: of a mask [B, L] they are np.nonzero(mask)[1]", bad(lambda c, p: (c, np.eye(16, dtype=bool)[p].any(1)))),
    Row("positions that count from 1, packed", TOKENS, "1 … 16", "expected 0 … 15 (counted from 1? subtract 1)", bad(lambda c, p: (c, p + 1))),
    Row("labels that are names", TOKENS, "an array of texts", "expected whole numbers: names, numbers = np.unique(…, return_inverse=True) makes them", bad(labels=np.array(["cat", "dog"] * 20))),
    Row("label -1 for unknown", TOKENS, "-1", "labels -1 at [0]; expected 0 … 65535", bad(labels=np.full(40, -1))),
    Row("a subset of -1 images takes all but one", TOKENS, "--count -1", "--count -1 is not a number of images; expected 1 or more", counted(-1)),
    Row("a subset of no image", TOKENS, "--count 0", "--count 0 is not a number of images; expected 1 or more", counted(0)),
    Row("arrays of another machine's byte order", TOKENS, ">i4", "the same set: True", array_like(lambda array: array.astype(">i4"))),
    Row("arrays in Fortran's order", TOKENS, "np.asfortranarray", "the same set: True", array_like(np.asfortranarray)),
    Row("a token set whose files are links, below a link", TOKENS, "as DVC's cache.type symlink leaves them", "26 images, equal: True", elsewhere),
    Row("an archive of the code, without Git", MACHINES, "GitHub's ZIP; make repro", "DVC needs a Git repository, which a downloaded archive is not: type `git init`, or clone it", downloaded("", git=False)),
    Row("the code in a folder of another repository", MACHINES, "a monorepo", "taken as it is", downloaded("", git=True)),
    Row("DVC without Git, as its configuration says", MACHINES, "core.no_scm = true", "taken as it is", downloaded("[core]\n    no_scm = true\n", git=False)),
    Row("one class where a list is expected", TYPED, "sample.classes=star", 'sample.classes is "star": expected \'all\', or a list: ["star"]', setting("sample.classes=star")),
    Row("classes with commas, without brackets", TYPED, "sample.classes=star,disc", "expected 'all', or a list: [\"star\", \"disc\"]", setting("sample.classes=star,disc")),
    Row("classes in brackets", TYPED, "sample.classes=[star,disc]", "taken", setting("sample.classes=[star,disc]")),
    Row("one table where a list is expected", TYPED, "shard.tables=labels.csv", 'shard.tables is "labels.csv": expected a valid array: ["labels.csv"]', setting("shard.tables=labels.csv")),
    Row("a role by its dotted name", TYPED, "shard.roles.test=val", "shard.roles.test is not a setting. Set all of it: 'shard.roles={test: val}'", setting("shard.roles.test=val")),
    Row("roles in braces", TYPED, "shard.roles={test: val}", "taken", setting("shard.roles={test: val}")),
    Row("spaces around a setting's name: did you mean the same", TYPED, "' sample.seed = 3'", "taken", setting(" sample.seed = 3")),
)  # fmt: skip
