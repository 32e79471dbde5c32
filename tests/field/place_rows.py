"""Where results, checkpoints and tars may go, and what a params file may look like."""

from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

from tests.field.place import Place, picture_bytes, pictures, write
from tests.field.table import Field, Row
from tests.hostile.table import World, plain
from tests.typed import typed

AREA, PARAMS, STORES = "where results go", "params.yaml as people leave it", "checkpoints and homes in stores"
FEW = ("--set", "sample.num_images=1", "--set", "sample.png_files=true")


def at(
    *places: str, made: Callable[[World, Path], object] = lambda world, folder: None
) -> Callable[[Field, Path], str]:
    """What `sample` says of these options, FOLDER being the row's own, and what is left of a picture that lies there."""

    def outcome(field: Field, folder: Path) -> str:
        world, photo = field.world(), write(folder / "photos" / "me.png", picture_bytes(1))
        made(world, folder)
        with chdir(world.root):
            told = world.run("sample", *FEW, *(place.replace("FOLDER", str(folder)) for place in places))
        return f"{plain(told, folder)}; the photograph {'is there' if photo.is_file() else 'IS GONE'}"

    return outcome


def twice(field: Field, folder: Path) -> str:
    """The same folder again, with its numbers."""
    options = (*FEW, "--out", str(folder / "out"), "--metrics", str(folder / "out" / "numbers"))
    said = [field.world().run("sample", *options, "--set", f"sample.seed={seed}") for seed in (1, 2)]
    return f"{said[0]}, {said[1]}; {len(list((folder / 'out' / 'png').iterdir()))} picture"


def written(change: Callable[[str], str], *options: str) -> Callable[[Field, Path], str]:
    """What `sample` says of a params file with its text changed."""

    def outcome(field: Field, folder: Path) -> str:
        world, params = field.world(), folder / "params.yaml"
        text = change((world.root / "params.yaml").read_text(encoding="utf-8"))
        params.write_bytes(text.encode())
        told = world.run("sample", *FEW, *options, "--params", str(params), "--out", str(folder / "out"))
        return plain(told, folder)

    return outcome


def set_to(*settings: str) -> Callable[[Field, Path], str]:
    """What `sample` says of settings on its command line."""
    return written(str, *(word for one in settings for word in ("--set", one)))


def renamed_in_place(field: Field, folder: Path) -> str:
    """`workspace.renamed` of a file with the line ends of Windows and a mark of its byte order."""
    data = "\ufeffstackformer:\r\n  mask_ratio: 0.5\r\n".encode()
    path = write(folder / "params.yaml", data)
    return f"{typed(folder, 'python', '-m', 'workspace.renamed', 'params.yaml').strip()}; {'the same bytes' if path.read_bytes() == data else 'OTHER BYTES'}"


def named_oddly(field: Field, folder: Path) -> str:
    """What `shard` says of class folders whose names break a line and colour a terminal."""
    for name in ("line\nbreak", "\x1b[31mred"):
        pictures(folder / "data" / name, 3)
    place = Place.of(folder / "place", folder / "data", kind="class_folder", val_fraction=0.1)
    return place.run().line("no validation image")


ROWS: tuple[Row, ...] = (
    Row("a folder of photographs is replaced by a stage's result", AREA, "`stages.sample --out photos`, a folder that holds photographs",
        "holds other files (me.png), and is replaced as a whole; expected a new folder, or an earlier result of sample; the photograph is there",
        at("--out", "FOLDER/photos")),
    Row("a folder above photographs is replaced by a stage's result", AREA, "`--out FOLDER`, which holds photos/", "holds other files (photos)",
        at("--out", "FOLDER")),
    Row("a folder of photographs is replaced by a stage's numbers", AREA, "`--metrics photos`",
        "photos holds other files (me.png), and is replaced as a whole; expected a new folder, or an earlier folder of numbers of sample",
        at("--out", "FOLDER/new", "--metrics", "FOLDER/photos")),
    Row("numbers beside a result replace it", AREA, "`--out FOLDER/a/samples --metrics FOLDER/a`", "samples, and would replace it; expected a folder of its own; the photograph is there",
        at("--out", "FOLDER/a/samples", "--metrics", "FOLDER/a")),
    Row("a result and its numbers in one folder", AREA, "`--out FOLDER/a --metrics FOLDER/a`", "a, and would replace it; expected a folder of its own; the photograph is there",
        at("--out", "FOLDER/a", "--metrics", "FOLDER/a")),
    Row("a trained model is replaced by samples", AREA, "`stages.sample --out artifacts/mqvae`",
        "--out artifacts/mqvae holds mqvae, which sample does not make, and would be replaced", at("--out", "artifacts/mqvae")),
    Row("a result in the folder that is read", AREA, "`stages.sample --out artifacts/mqvae/samples`", "--out artifacts/mqvae/samples is inside --mqvae artifacts/mqvae",
        at("--out", "artifacts/mqvae/samples")),
    Row("a result in the place of a file is a traceback after the work", AREA, "`--out photos/me.png`", "is a file; expected a folder, which is made",
        at("--out", "FOLDER/photos/me.png")),
    Row("a result below a file", AREA, "`--out photos/me.png/samples`", "me.png (Not a directory)",
        at("--out", "FOLDER/photos/me.png/samples")),
    Row("a result in the working folder", AREA, "`--out .`", "contains the working folder, and is replaced as a whole", at("--out", ".")),
    Row("a place where nothing can be written is noticed after the work", AREA, "`--out /proc/samples`", "nothing can be written to /proc", at("--out", "/proc/samples")),
    Row("a mounted folder cannot be replaced", AREA, "`--out /dev/shm`, as a container has /out", "is a mount point, which cannot be replaced; expected a folder in it", at("--out", "/dev/shm")),
    Row("a result is made again in its folder", AREA, "`--out FOLDER/out --metrics FOLDER/out/numbers`, another seed, the same places", "done, done; 1 picture", twice),
    Row("a class folder's name breaks a line, or colours the terminal", AREA, "line\\nbreak/, \\x1b[31mred/", "line\\nbreak", named_oddly),
    Row("a section pasted at the end of params.yaml counts alone, and the first one is edited in vain", PARAMS, "sample: twice",
        "sample is there twice, in lines ", written(lambda text: f"{text}\nsample: {{seed: 3}}\n")),
    Row("a setting written twice takes the last value", PARAMS, "sample.seed twice", "seed is there twice, in lines ",
        written(lambda text: text.replace("\nsample:\n", "\nsample:\n  seed: 7\n"))),
    Row("params.yaml with line ends of Windows", PARAMS, "CRLF", "done", written(lambda text: text.replace("\n", "\r\n"))),
    Row("params.yaml with a mark of its byte order", PARAMS, "as Windows' Notepad writes it", "done", written(lambda text: "\ufeff" + text)),
    Row("params.yaml indented with tabs", PARAMS, "a tab before sample.seed", "is not YAML: while scanning for the next token found character '\\t' that cannot start any token",
        written(lambda text: text.replace("\nsample:\n", "\nsample:\n\tseed: 7\n"))),
    Row("a number with a leading zero is taken for an octal one", PARAMS, "`--set sample.seed=010`", "done", set_to("sample.seed=010")),
    Row("a whole number in exponents", PARAMS, "`--set sample.batch=1e1`", "sample.batch is 10.0: expected a valid integer (write 10)", set_to("sample.batch=1e1")),
    Row("a number in quotes", PARAMS, "`--set 'sample.batch=\"8\"'`", 'sample.batch is "8": expected a valid integer (without quotes: 8)', set_to('sample.batch="8"')),
    Row("a number that begins with its point", PARAMS, "`--set sample.code.top_p=.5`", "done", set_to("sample.code.top_p=.5")),
    Row("new names are written with other line ends", PARAMS, "workspace.renamed of a file of Windows", "no old names; the same bytes", renamed_in_place),
    Row("checkpoints for a store that does not exist are noticed at the first one", STORES, "compute.checkpoints s4://bucket", "compute.checkpoints s4://bucket: s4:// is not opened",
        set_to("compute.checkpoints=s4://bucket")),
    Row("checkpoints for a web server are noticed at the first one", STORES, "compute.checkpoints https://host/x", "nothing can be put there; expected a store", set_to("compute.checkpoints=https://host/x")),
    Row("a secret in the URL of checkpoints", STORES, "compute.checkpoints s3://KEY:SECRET@bucket", "s3://…@bucket holds credentials", set_to("compute.checkpoints=s3://KEY:SECRET@bucket")),
    Row("a cache at a URL is a folder called s3:", STORES, "compute.cache_folder s3://bucket", "compute.cache_folder is s3://bucket; expected a folder on a disk of each node", set_to("compute.cache_folder=s3://bucket")),
    Row("a cache below ~ is a folder of that name", STORES, "compute.cache_folder ~/cache", "compute.cache_folder is ~/cache; expected the path in full", set_to("compute.cache_folder=~/cache")),
    Row("tars below ~ go to a folder of that name", STORES, "shard.home ~/tars", "shard.home is ~/tars; expected the path in full: only a shell reads ~ as your home",
        lambda field, folder: Place.of(folder, pictures(folder / "data", 3), home="~/tars").run().said),
    Row("a lone bracket in a URL is a traceback", STORES, "compute.checkpoints s3://[bucket", "s3://[bucket is a pattern (*, ?, [); expected the URL of one folder", set_to("compute.checkpoints='s3://[bucket'")),
)  # fmt: skip
