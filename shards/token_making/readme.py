"""The README of a token set, for readers who do not have this code, and the description of its members."""

from dataclasses import dataclass

MEMBERS = {
    "codes.npy": "uint16 [B, N]: codes in 0 … K-1, in raster order of their positions",
    "offsets.npy": "uint32 [B + 1]: the codes of image b of the block are codes[offsets[b] : offsets[b + 1]]",
    "kept.npy": "uint8 [B, ceil(L/8)]: bit l, big-endian, is 1 where cell l of the grid (raster order) was kept; pad bits 0",
    "cls.npy": "uint16 [B]: index into classes",
    "text.npy": "uint16 [B, C, N_c]: captions in the codes of text_tokenizer.json, pad 0",
    "caption_count.npy": "uint8 [B]: how many of the C are captions",
    "keys.json": "B strings, unique in a split; augmented copies of KEY are KEY+1, KEY+2, …",
    "sources.json": 'B strings: where each image came from, a path relative to its source; "" where nobody knows',
}
"""Extension of each member of a block → dtype, shape and meaning; also written to the manifest."""

NAMED = '[name for block in blocks for name in json.loads(files[f"{block}.%s.json"])]'
LINES = {
    "keys.json": f"keys = {NAMED % 'keys'}\n",
    "sources.json": f"sources = {NAMED % 'sources'}\n",
    "cls.npy": 'classes = stack("cls")\n',
    "text.npy": 'captions, caption_count = stack("text"), stack("caption_count")\n',
}
"""Member → the line that loads it, for sets that have it."""

README = """# A token data set

{images} images, each as N = {N} of the {height} × {width} = {L} cells of a grid: a code out of K = {K} for each kept cell, and
where it sat. Positions run 0 … {last} in raster order. `manifest.json` states all this under `facts`, with class names, the
fingerprint of the MQ-VAE that made (and decodes) the codes, and a SHA-256 for each file.

The samples of `{{train,val}}/000000.tar`, … are blocks of B images:

{members}

To load a split with numpy alone, from this folder:

```python
import glob, io, json, tarfile
import numpy as np

tars = [tarfile.open(path) for path in sorted(glob.glob("train/*.tar"))]
files = {{member.name: tar.extractfile(member).read() for tar in tars for member in tar}}
blocks = sorted({{name.split(".")[0] for name in files}})
stack = lambda field: np.concatenate([np.load(io.BytesIO(files[f"{{block}}.{{field}}.npy"])) for block in blocks])
codes = stack("codes")
positions = np.nonzero(np.unpackbits(stack("kept"), axis=1))[1].reshape(codes.shape)
{lines}```
{more}
`torch.from_numpy(codes.astype("int64")), torch.from_numpy(positions)` are what torch wants of them. Or a block at a time:
`webdataset.WebDataset("train/000000.tar", shardshuffle=False).decode()`.
"""


@dataclass(frozen=True)
class Holds:
    """The optional content of a token set's blocks, besides codes, positions and keys."""

    classes: bool
    captions: bool
    sources: bool
    offsets: bool = False


RAGGED_CODES = (
    "uint16 [ΣN]: codes in 0 … K-1 of all images of the block, in raster order of each image's positions"
)
LINES["offsets.npy"] = (
    'lengths = np.unpackbits(stack("kept"), axis=1).sum(axis=1, dtype="int64")\n'
    "offsets = np.concatenate([[0], np.cumsum(lengths)])\n"
)
RAGGED = """
Images have different numbers of codes: those of image i are `codes[offsets[i] : offsets[i + 1]]`, and its positions likewise.
"""


def members_of(holds: Holds) -> dict[str, str]:
    """The members of a token set's blocks."""
    absent = set() if holds.classes else {"cls.npy"}
    absent |= set() if holds.captions else {"text.npy", "caption_count.npy"}
    absent |= set() if holds.sources else {"sources.json"}
    absent |= set() if holds.offsets else {"offsets.npy"}
    codes = {"codes.npy": RAGGED_CODES} if holds.offsets else {}
    return {name: text for name, text in (MEMBERS | codes).items() if name not in absent}


def readme(counts: str, grid: tuple[int, int], num_codes: int, num_kept: str, holds: Holds) -> str:
    """The text of README.md.

    Args:
        counts: number of images per split, as text.
        grid: cells down and across.
        num_codes: K.
        num_kept: N, or its range, as text.
        holds: which optional members the blocks have.
    """
    height, width = grid
    members = members_of(holds)
    return README.format(
        images=counts,
        N=num_kept,
        height=height,
        width=width,
        L=height * width,
        last=height * width - 1,
        K=num_codes,
        members="\n".join(f"- `BLOCK.{name}` {text}" for name, text in members.items()),
        lines="".join(line for name, line in LINES.items() if name in members),
        more=RAGGED if holds.offsets else "",
    )
