"""The library in a notebook: what is passed to it by hand, and what the notebook itself has set."""

import asyncio
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from models.mqvae import MQVAE, Tokens
from models.sampling import Sampled, SamplingSettings, Truncation, sample
from models.stackformer import Stackformer
from shards.images import ImageIndex, ImageShards
from shards.images.pixels import to_tensor, to_uint8
from shards.tokens import TokenShards
from tests.field.table import Field, Row
from workspace.errors import UserError

AREA = "the library in a notebook"
CPU = torch.device("cpu")
TOP = Truncation(temperature=1.0, top_k=0, top_p=0.8)
GUIDED = SamplingSettings(2.0, TOP, TOP)
ARRAY: Any = np.zeros((1, 3, 16, 16), np.float32)
NO_ROWS: tuple[Any, ...] = ([-1], [108], [0.5])
SOME_ROWS: Any = [3, 1]
NONE: Any = []


class Opened:
    """What README's lines of Python open, of the small world."""

    def __init__(self, made: Path) -> None:
        self.made = made
        self.mqvae, self.stackformer = load(made)
        self.index: ImageIndex = ImageShards.open(made / "shards").index("val")
        self.image_BCHW = to_tensor(self.index.read(0).image[None], CPU)
        self.tokens: Tokens = self.mqvae.tokenize(self.image_BCHW)
        self.drawn = drawn(self.stackformer)


def load(made: Path) -> tuple[MQVAE, Stackformer]:
    return MQVAE.from_pretrained(made / "mqvae"), Stackformer.from_pretrained(made / "stackformer")


def learned(made: Any, codes_BN: torch.Tensor, positions_BN: torch.Tensor | None = None) -> Any:
    """One forward pass of a training loop."""
    positions_BN = codes_BN if positions_BN is None else positions_BN
    return made.stackformer(codes_BN, positions_BN, torch.tensor([[7]]))


def drawn(model: Stackformer, condition_BC: Any = None, seeds: Any = (0,)) -> Sampled:
    return sample(
        model, torch.tensor([[7]], device=CPU) if condition_BC is None else condition_BC, seeds, GUIDED
    )


def pair(tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
    return tokens.codes_BN, tokens.positions_BN


@cache
def opened(made: Path) -> Opened:
    return Opened(made)


def told(work: Callable[[], object], folder: Path) -> str:
    """What some work returns, or the one line of its error, of a kind that a caller may catch."""
    try:
        return str(work())
    except (UserError, ValueError, IndexError) as error:
        line = f"{type(error).__name__}: {error}".replace(f"{folder}/", "")
    assert "\n" not in line
    return line


def row(symptom: str, made: str, expected: str, work: Callable[[Opened], object]) -> Row:
    """A row whose work takes what is opened."""

    def outcome(field: Field, folder: Path) -> str:
        made = field.world().artifact("")
        return told(lambda: work(opened(made)), made)

    return Row(symptom, AREA, made, expected, outcome)


def text_paths(made: Opened) -> str:
    """Strings, and `~`, where README has paths."""
    named = os.path.relpath(made.made)
    with mock.patch.dict(os.environ, HOME=str(made.made)):
        models = MQVAE.from_pretrained(f"{named}/mqvae"), Stackformer.from_pretrained("~/stackformer")
        sets = ImageShards.open(f"{named}/shards"), TokenShards.open(Path("~/tokens"))
        models[0].save_pretrained(f"{named}/x")
        again = MQVAE.from_pretrained("~/x").config == made.mqvae.config
    shutil.rmtree(made.made / "x")
    return f"{sets[0].count('val')} images, {len(sets[1].load('val'))} tokens; saved and loaded: {again}"


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def equal(made: Opened) -> bool:
    """Whether models that are loaded now give the same tokens, image and draw, bit for bit."""
    mqvae, stackformer = load(made.made)
    assert {weight.device.type for weight in mqvae.parameters()} == {"cpu"}
    tokens, draw = mqvae.tokenize(made.image_BCHW), drawn(stackformer)
    found = (*pair(tokens), draw.codes_BN, draw.positions_BN, mqvae.decode_tokens(*pair(tokens)))
    wanted = (
        *pair(made.tokens),
        made.drawn.codes_BN,
        made.drawn.positions_BN,
        made.mqvae.decode_tokens(*pair(made.tokens)),
    )
    return all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def dtypes(made: Opened) -> str:
    same = []
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        with default_dtype(dtype):
            same.append(equal(made))
            assert torch.get_default_dtype() == dtype
    return f"the same bits: {same}"


def devices(made: Opened) -> str:
    with torch.device("meta"):  # as torch.set_default_device
        return f"the same bits: {equal(made)}"


def modes(made: Opened) -> str:
    async def cell() -> bool:
        return equal(made)

    torch.use_deterministic_algorithms(True)
    try:
        with torch.inference_mode():
            inside = asyncio.run(cell())
    finally:
        torch.use_deterministic_algorithms(False)
    return f"the same bits: {inside}"


def list_like(made: Opened) -> str:
    index = made.index
    last, three = index[-1], index[:3]
    keys = [one.key for one in islice(index, 3)]
    assert [one.key for one in three] == keys == [index.read(number).key for number in range(3)]
    return f"{len(index)} images, the last {last.key}; {told(lambda: index[len(index)], made.made)}"


def in_workers(made: Opened) -> str:
    """As DataLoader sends a data set to a worker that is spawned."""
    shards = TokenShards.open(made.made / "tokens")
    rows = np.array([5, 0, 90])
    found = []
    for split in (shards.load("train"), shards.mapped("train")):
        split.rows(rows)
        found.append(pickle.loads(pickle.dumps(split)).rows(rows).codes)
    image = pickle.loads(pickle.dumps(made.index)).read(1).image
    same = np.array_equal(found[0], found[1]) and np.array_equal(image, made.index.read(1).image)
    return f"what they read is the same: {same}"


def rows_alike(made: Opened) -> str:
    """In memory and in place, the same rows and the same errors."""
    shards = TokenShards.open(made.made / "tokens")
    said = []
    for split in (shards.load("train"), shards.mapped("train")):
        some, none = split.rows(SOME_ROWS).codes, split.rows(NONE)
        wrong = [told(partial(split.rows, rows), made.made) for rows in NO_ROWS]
        said.append(f"{some.shape} {none.codes.shape} {none.kept.shape} {'; '.join(wrong)}")
    assert said[0] == said[1]
    return said[0]


def read_only(made: Opened) -> str:
    """A picture of the shards is a view of bytes that are read-only."""
    image = made.index.read(0).image
    assert not image.flags.writeable
    back = to_uint8(to_tensor(image[None], CPU).bfloat16().requires_grad_())
    return f"within a grey level: {int(np.abs(back[0].astype(int) - image).max()) <= 1}"


def other_model(made: Opened) -> object:
    return MQVAE.from_pretrained(made.made / "stackformer")


def pointer(field: Field, folder: Path) -> str:
    """A model from a clone without Git LFS."""
    shutil.copytree(field.world().artifact("mqvae"), folder / "mqvae")
    (folder / "mqvae" / "model.safetensors").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    )
    return told(lambda: MQVAE.from_pretrained(folder / "mqvae"), folder)


def config_of_windows(field: Field, folder: Path) -> str:
    """config.json saved by an editor that marks the byte order, and one that is not text."""
    shutil.copytree(field.world().artifact("mqvae"), folder / "mqvae")
    path = folder / "mqvae" / "config.json"
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    loaded = MQVAE.from_pretrained(folder / "mqvae").config.num_codes
    path.write_bytes(b"\xff\xfe{")
    return f"K = {loaded}; {told(lambda: MQVAE.from_pretrained(folder / 'mqvae'), folder)}"


def changed(
    made: Opened,
    codes: Callable[[torch.Tensor], Any] = lambda c: c,
    places: Callable[[torch.Tensor], Any] = lambda p: p,
) -> object:
    """Decode tokens of which something is other."""
    return made.mqvae.decode_tokens(
        codes(made.tokens.codes_BN.clone()), places(made.tokens.positions_BN.clone())
    )


def any_whole(made: Opened) -> str:
    """uint16, as the set's README loads codes, and cells in any order."""
    codes_BN, positions_BN = pair(made.tokens)
    order = torch.arange(codes_BN.shape[1]).flip(0)
    back = made.mqvae.decode_tokens(
        codes_BN[:, order].to(torch.uint16), positions_BN[:, order].to(torch.uint8)
    )
    few = made.mqvae.decode_tokens(codes_BN[:, :3], positions_BN[:, :3])
    return f"the same image: {torch.equal(back, made.mqvae.decode_tokens(*pair(made.tokens)))}; of three codes {list(few.shape)}"


def twice(positions_BN: torch.Tensor) -> torch.Tensor:
    positions_BN[0, 1] = positions_BN[0, 0]
    return positions_BN


def whole_seeds(made: Opened) -> str:
    """Seeds as a range, an array, a tensor."""
    seeds = range(1), np.arange(1), torch.arange(1)
    return f"the same draw: {[torch.equal(drawn(made.stackformer, seeds=some).codes_BN, made.drawn.codes_BN) for some in seeds]}"


ROWS: tuple[Row, ...] = (
    row("a folder given as text, or below ~, is a TypeError or not there", '`MQVAE.from_pretrained("artifacts/mqvae")`, `ImageShards.open("~/shards")`', "27 images, 27 tokens; saved and loaded: True", text_paths),
    row("a notebook's default dtype makes the models' weights", "torch.set_default_dtype: bfloat16, float16, float64", "the same bits: [True, True, True]", dtypes),
    row("a notebook's default device leaves the models empty", "torch.set_default_device, here meta", "the same bits: True", devices),
    row("inside a notebook's event loop", "inference_mode, deterministic algorithms, asyncio", "the same bits: True", modes),
    row("an index of images is no list", "`for image in index`, `index[-1]`, `index[:3]`", "27 images, the last 0000026; IndexError: sample 27 of val, which has 0 … 26", list_like),
    row("number -1 of an index is called a changed file", "`index.read(-1)`", "IndexError: sample -1 of val, which has 0 … 26", lambda made: made.index.read(-1)),
    row("a split that there is not", '`ImageShards.open(…).index("valid")`', "split 'valid': a set has train and val", lambda made: ImageShards.open(made.made / "shards").index("valid")),
    row("a split of tokens that there is not sends to dvc repro", '`TokenShards.open(…).load("test")`', "split 'test': a set has train and val", lambda made: TokenShards.open(made.made / "tokens").load("test")),
    row("a mapped split cannot be sent to a spawned worker", "pickled, as DataLoader does", "what they read is the same: True", in_workers),
    row("rows of tokens by a list, none, or past the end", "in memory and in place", "(2, 32) (0, 32) (0, 8) IndexError: rows -1 … -1; expected 0 … 107; IndexError: rows 108 … 108; expected 0 … 107; IndexError: rows are float64 [1], expected numbers of images [B]", rows_alike),
    row("a picture of the shards makes torch warn; a tensor is no array", "to_tensor of a read-only image; to_uint8 of a bf16 tensor with a gradient", "within a grey level: True", read_only),
    row("floats are scaled as if they were bytes", "to_tensor of floats", "images are float32 [1, 16, 16, 3], expected uint8 [B, H, W, 3]", lambda made: to_tensor(np.zeros((1, 16, 16, 3), np.float32), CPU)),
    row("one picture without its batch", "to_tensor of [H, W, 3]", "expected uint8 [B, H, W, 3]; one image is image[None]", lambda made: to_tensor(made.index.read(0).image, CPU)),
    row("images of another size are tokenized into cells that there are not", "48 px for a model of 16", "image_BCHW is float32 [1, 3, 48, 48]; expected floats [B, 3, 16, 16] in [-1, 1]", lambda made: made.mqvae.tokenize(torch.zeros(1, 3, 48, 48))),
    row("grey images, bytes, channels last, no image", "shapes and dtypes of other programs", "[1, 1, 16, 16]; [1, 3, 16, 16]; [1, 16, 16, 3]; [0, 3, 16, 16]",
        lambda made: "; ".join(told(partial(made.mqvae.tokenize, given), made.made).partition("; ")[0].rpartition("8 " if given.dtype == torch.uint8 else "32 ")[2] for given in (torch.zeros(1, 1, 16, 16), torch.zeros(1, 3, 16, 16, dtype=torch.uint8), torch.zeros(1, 16, 16, 3), torch.zeros(0, 3, 16, 16)))),
    row("images of 0 … 255 get tokens without a word", "floats that were not scaled", "image_BCHW has values 0 … 255; expected floats", lambda made: made.mqvae.tokenize(torch.linspace(0, 255, 768).reshape(1, 3, 16, 16))),
    row("NaN gets the first code", "an image of NaN", "image_BCHW has values nan … nan; expected floats", lambda made: made.mqvae.tokenize(made.image_BCHW * float("nan"))),
    row("an array where a tensor is wanted", "mqvae.tokenize of NumPy's", "image_BCHW is a ndarray; expected floats", lambda made: made.mqvae.tokenize(ARRAY)),
    row("codes as the set's README loads them are refused", "uint16, in another order; three cells alone", "the same image: True; of three codes [1, 3, 16, 16]", any_whole),
    row("positions that count from 1", "1 … L", "positions_BN has values", lambda made: changed(made, places=lambda p: p + 64 - p.max())),
    row("a code beyond the codebook ends a GPU's process", "K", "codes_BN has values 32 … 63; expected 0 … 31", lambda made: changed(made, lambda c: torch.arange(32, 64)[None])),
    row("a position twice loses a code silently", "positions [p, p, …]", "twice in row 0", lambda made: changed(made, places=twice)),
    row("codes of one number, positions of another are cut", "[1, 6] and [1, 5]", "codes_BN [1, 6] and positions_BN [1, 5]: expected the same shape [B, N]", lambda made: changed(made, lambda c: c[:, :6], lambda p: p[:, :5])),
    row("one row of positions for two of codes", "[2, 32] and [1, 32]", "expected the same shape [B, N]", lambda made: changed(made, lambda c: c.repeat(2, 1))),
    row("codes that are floats, by hand", "float32", "codes_BN is float32; expected whole numbers (int64)", lambda made: changed(made, lambda c: c.float())),
    row("class -1 draws with a code for its class", "condition [[-1]]", "condition_BC has values -1 … -1; expected 0 … 9", lambda made: drawn(made.stackformer, torch.tensor([[-1]]))),
    row("a class beyond the last one, by hand", "condition [[10]] of 9 classes", "condition_BC has values 10 … 10; expected 0 … 9", lambda made: drawn(made.stackformer, torch.tensor([[10]]))),
    row("a class as [7], not [[7]]", "condition [7]", "condition_BC is [1]; expected whole numbers [B, 1]: class c is [[c]]", lambda made: drawn(made.stackformer, torch.tensor([7]))),
    row("a class as a list", "condition [[7]] without torch", "condition_BC is a list; expected whole numbers [B, 1]", lambda made: drawn(made.stackformer, [[7]])),
    row("two classes for one image", "condition [[7, 7]]", "condition_BC is [1, 2]; expected whole numbers [B, 1]", lambda made: drawn(made.stackformer, torch.tensor([[7, 7]]))),
    row("seeds of NumPy or torch are refused", "range, arange of both", "the same draw: [True, True, True]", whole_seeds),
    row("one seed that is no list", "seeds=0", "seeds: 'int' object is not iterable; expected whole numbers, one per image", lambda made: drawn(made.stackformer, seeds=0)),
    row("a seed of more than 64 bits", "seeds=[2**70]", "has more than 64 bits", lambda made: drawn(made.stackformer, seeds=[2**70])),
    row("no image at all", "seeds=[]", "seeds: there are none; expected one per image", lambda made: drawn(made.stackformer, torch.zeros(0, 1, dtype=torch.int64), [])),
    row("more seeds than classes", "seeds=[0, 1], one condition", "expected one seed and one condition per image, 2 each: 2 seeds, 1 conditions", lambda made: drawn(made.stackformer, seeds=[0, 1])),
    row("guidance that is not a number", "SamplingSettings(nan, …)", "guidance_scale is nan, expected a finite number", lambda made: SamplingSettings(float("nan"), TOP, TOP)),
    row("an endless temperature", "Truncation(inf, …)", "temperature is inf, expected a finite number", lambda made: Truncation(float("inf"), 0, 1.0)),
    row("a loop of one's own, with one condition for two sequences", "codes [2, 3], condition [1, 1]", "2 sequences of codes and 1 conditions: expected one each", lambda made: learned(made, torch.zeros(2, 3, dtype=torch.int64))),
    row("a loop of one's own, with positions of another length", "codes [1, 3], positions [1, 2]", "codes_BN [1, 3] and positions_BN [1, 2]: expected the same shape [B, N]", lambda made: learned(made, torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64))),
    row("codes as floats, in a loop of one's own", "codes.float()", "codes_BN is float32; expected whole numbers (int64)", lambda made: learned(made, torch.zeros(1, 3))),
    row("the other model's folder, by hand", 'MQVAE.from_pretrained("stackformer")', "ValueError: stackformer/config.json: condition is not a field of MQVAEConfig", other_model),
    Row("a model from a clone without Git LFS", AREA, "model.safetensors is LFS's pointer", "model.safetensors is a pointer of Git LFS, not the file: run `git lfs pull`", pointer),
    Row("config.json with a mark of its byte order, or not text", AREA, "utf-8-sig; UTF-16", "K = 32; ValueError: mqvae holds a damaged model: 'utf-8' codec can't decode", config_of_windows),
)  # fmt: skip
