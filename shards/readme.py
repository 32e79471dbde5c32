"""The README that stands in every token data set: what it is, and the lines that load it with numpy alone."""

README = """# A token data set

{images} images, each as N = {N} of the {height} × {width} = {L} cells of its grid: a code of K = {K} for each kept cell, and
where it sat. Made by an MQ-VAE whose fingerprint is in manifest.json, which also states counts, class names and checksums.

Each tar holds blocks of B images: `codes` uint16 [B, N] in raster order; `mask` uint8 [B, ceil(L/8)], one bit a cell (bits
big-endian), set where the cell was kept: the positions, ascending; `cls` uint16 [B] or `text` uint16 [B, C, N_c] (pad 0) with
`caption_count` uint8 [B]; `keys`. To load a split with numpy alone:

```python
import glob, io, json, tarfile
import numpy as np

facts = json.load(open("manifest.json"))["facts"]
codes, positions = [], []
for path in sorted(glob.glob("train/*.tar")):
    with tarfile.open(path) as tar:
        files = {{member.name: tar.extractfile(member).read() for member in tar}}
    for name in sorted(name for name in files if name.endswith(".codes.npy")):
        mask = np.load(io.BytesIO(files[name.replace(".codes.", ".mask.")]))
        kept = np.unpackbits(mask, axis=1, count=facts["grid"][0] * facts["grid"][1], bitorder="big")
        codes.append(np.load(io.BytesIO(files[name])))
        positions.append(np.nonzero(kept)[1].reshape(len(kept), facts["num_kept"]))
codes, positions = np.concatenate(codes), np.concatenate(positions)
```

Or with `webdataset.WebDataset("train/000000.tar", shardshuffle=False).decode()`, a block a sample.
"""
