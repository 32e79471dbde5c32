"""As many codes as the picture needs: an MQ-VAE for any number of cells, budgets, sequences that end by themselves."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from shards.describe import describe
from shards.token_sets import merge
from shards.tokens import TokenShards
from shards.verify import verify
from tests.field.shell_rows import several
from tests.field.table import Field, Row
from tests.hostile.table import World

AREA = "as many codes as the picture needs"


@dataclass(frozen=True)
class Chain:
    """From an MQ-VAE for any number of cells to a Stackformer that stops, each made once by its stage.

    Attributes:
        world: the shards and models of one N that the rows compare with.
        root: where `any`, `rate` and `stops` are.
    """

    world: World
    root: Path

    def run(self, stage: str, out: str, *options: str) -> str:
        """Run a stage by hand into a folder of the chain; what the user is told."""
        shutil.rmtree(self.root / out, ignore_errors=True)
        told = self.world.run(stage, *options, "--out", str(self.root / out))
        return told.replace(f"{self.root}/", "")

    def tokenize(self, out: str, *settings: str) -> str:
        """Tokens by the MQ-VAE for any number of cells."""
        return self.run("tokenize", out, "--mqvae", str(self.root / "any"), *several(*settings))

    def sample(self, out: str, *options: str) -> str:
        """Images by the Stackformer that stops."""
        models = ("--stackformer", str(self.root / "stops"), "--mqvae", str(self.root / "any"))
        return self.run("sample", out, *models, *options)


@cache
def chain(world: World) -> Chain:
    """The chain, made at its first use, beside the world."""
    made = Chain(world, world.root.parent / "budgets")
    told = [
        made.run("train_mqvae", "any", *several("mqvae.model.kept=any")),
        made.tokenize("rate", "tokenize.budget.kind=rate", "tokenize.budget.mask_ratio=0.75"),
        made.run("train_stackformer", "stops", "--tokens", str(made.root / "rate")),
    ]
    assert told == ["done"] * 3, told
    return made


def of(work: Callable[[Chain, Path], str]) -> Callable[[Field, Path], str]:
    """A row's outcome from what is done with the chain."""
    return lambda field, folder: work(chain(field.world()), folder)


def lengths_of(folder: Path) -> str:
    """What a token set says of its lengths."""
    shards = TokenShards.open(folder)
    facts = shards.facts
    if facts.fewest_kept is None:
        return f"N = {facts.num_kept} of all"
    mean = shards.load("train").lengths.mean() / facts.num_positions
    return f"lengths differ, {mean:.1f} of the cells on the mean"


def whole(made: Chain, folder: Path) -> str:
    """Verified and described."""
    assert "images are intact, N = " in verify(made.root / "rate")
    assert "codes per image in its first block" in describe(made.root / "rate")
    return lengths_of(made.root / "rate")


def fixed(made: Chain, folder: Path) -> str:
    """Another N than the MQ-VAE's own."""
    told = made.tokenize("quarter", "tokenize.budget.mask_ratio=0.75")
    return lengths_of(made.root / "quarter") if told == "done" else told


def quality(made: Chain, folder: Path) -> str:
    """A goal that no image of this small model reaches: all cells."""
    told = made.tokenize("quality", "tokenize.budget.kind=quality", "tokenize.budget.psnr=90")
    return lengths_of(made.root / "quality") if told == "done" else told


def one_n(made: Chain, folder: Path) -> str:
    """A budget for an MQ-VAE of one N."""
    return made.run("tokenize", "no", *several("tokenize.budget.kind=rate"))


def merged(made: Chain, folder: Path) -> str:
    """Twice the same images: their keys get names."""
    told = made.tokenize("again", "tokenize.budget.kind=rate", "tokenize.budget.mask_ratio=0.5")
    assert told == "done", told
    merge([made.root / "rate", made.root / "again"], folder / "both")
    return lengths_of(folder / "both")


def mixed(made: Chain, folder: Path) -> str:
    """With a set of one N, by the same MQ-VAE."""
    assert made.tokenize("even", "tokenize.budget.mask_ratio=0.75") == "done"
    told = made.world.told(lambda: merge([made.root / "rate", made.root / "even"], folder / "no"))
    return told.replace("budgets/", "")


def bounded(text: str) -> Callable[[Chain, Path], str]:
    """`--codes` at the shell."""
    return lambda made, folder: made.sample("samples", "--codes", text)


def of_one_n(made: Chain, folder: Path) -> str:
    """`--codes` for a Stackformer whose images all have N codes."""
    return made.run("sample", "no", "--codes", "8-16")


def edited(made: Chain, folder: Path) -> str:
    """A grey picture, half of which is to be drawn again."""
    Image.new("RGB", (16, 16), "grey").save(folder / "grey.png")
    return made.sample("no", "--edit", str(folder / "grey.png"), "--keep", "left")


def asked(*settings: str) -> Callable[[Chain, Path], str]:
    """Tokens that are refused."""
    return lambda made, folder: made.tokenize("no", *settings)


ROWS = (
    Row("a photograph of the sky takes as many codes as a crowd", AREA, "tokenize.budget.kind: rate", "lengths differ", of(whole)),
    Row("another N without another training", AREA, "tokenize.budget.mask_ratio: 0.75", "N = 16 of all", of(fixed)),
    Row("a quality that nothing reaches", AREA, "tokenize.budget.psnr: 90", "lengths differ, 1.0 of the cells", of(quality)),
    Row(
        "budgets for an MQ-VAE that knows one N",
        AREA,
        "tokenize.budget.kind: rate",
        "the MQ-VAE was trained for N = 32 alone: set mqvae.model.kept to any",
        of(one_n),
    ),
    Row("a mean that no λ keeps", AREA, "tokenize.budget: {kind: rate, mask_ratio: 0.98}",
        "asks for 1.28 of L = 64 cells on the mean, and each image is given at least 2: expected mask_ratio ≤ 0.968",
        of(asked("tokenize.budget.kind=rate", "tokenize.budget.mask_ratio=0.98"))),
    Row("no cell of any image", AREA, "tokenize.budget.mask_ratio: 0.999", "keeps N = 0 of L = 64 cells; expected N ≥ 1",
        of(asked("tokenize.budget.mask_ratio=0.999"))),
    Row("a quality beyond exact", AREA, "tokenize.budget.psnr: 120", "tokenize.budget.psnr is 120: expected less than or equal to 100",
        of(asked("tokenize.budget.kind=quality", "tokenize.budget.psnr=120"))),
    Row("a distance, and nothing that measures it", AREA, "tokenize.budget.distance: 0.1",
        "tokenize.budget.distance is 0.1 and tokenize.lpips.network none; expected squeezenet or vgg",
        of(asked("tokenize.budget.kind=quality", "tokenize.budget.distance=0.1"))),
    Row("the worth of a cell by a distance that nothing measures", AREA, "tokenize.budget.gain: lpips",
        "tokenize.budget.gain is lpips and tokenize.lpips.network none; expected squeezenet or vgg",
        of(asked("tokenize.budget.kind=rate", "tokenize.budget.gain=lpips"))),
    Row("sets of two budgets do not merge", AREA, "token_sets merge", "lengths differ", of(merged)),
    Row("a set of one N merged with lengths that differ", AREA, "token_sets merge", "has N 2 … 64, even has 16", of(mixed)),
    Row("samples of a model that stops", AREA, "`stages.sample --class circle`", "done", of(lambda made, folder: made.sample("samples", "--class", "circle"))),
    Row("the number of codes bounded at the shell", AREA, "`--codes 8-12`", "done", of(bounded("8-12"))),
    Row("bounds with an ellipsis", AREA, "`--codes 8…12`", "done", of(bounded("8…12"))),
    Row("one number of codes", AREA, "`--codes 10`", "done", of(bounded("10"))),
    Row("bounds the wrong way round", AREA, "`--codes 12-8`", "sample.codes is [12, 8]; expected the fewest and the most", of(bounded("12-8"))),
    Row("bounds that are words", AREA, "`--codes few`", "--codes is few; expected the fewest and the most codes", of(bounded("few"))),
    Row("more codes than there are cells", AREA, "`--codes 65-70`", "codes 65 … 70 are asked for, and the model draws", of(bounded("65-70"))),
    Row("bounds for a model of one N", AREA, "`--codes 8-16`", "and the model draws 32 … 32", of(of_one_n)),
    Row(
        "an edit with a model that stops",
        AREA,
        "`stages.sample --edit`",
        "an edit needs a Stackformer of one number",
        of(edited),
    ),
)  # fmt: skip
