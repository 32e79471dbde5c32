"""Describe what an artifact holds: `python -m shards.describe DIR`.

Prints any artifact's kind, facts, files and inputs; for token shards also one image as it is stored.
"""

import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shards.text import TextTokenizer
from shards.tokens import TokenFacts, TokenShards, check_block
from shards.tokens.blocks import TokenBlock, flat_positions, read_token_shard
from workspace.commands import parser_of
from workspace.errors import mistakes_in_one_line
from workspace.exact.manifest import Manifest, kind_of, read_manifest

SHOWN = 160


def describe(folder: Path) -> str:
    """An artifact's description, several lines of text.

    Raises:
        UserError: no artifact, or a damaged one.
    """
    kind = kind_of(folder)
    manifest = read_manifest(folder, kind)
    lines = [f"{folder}: {kind}, fingerprint {manifest.fingerprint[:16]}", *_origin(manifest)]
    lines += [f"  {name}: {_short(value)}" for name, value in manifest.facts.items() if name != "members"]
    lines += _folders(manifest)
    if kind == "token-shards":
        lines += _tokens(TokenShards.open(folder))
    return "\n".join(lines) + "\n"


def _origin(manifest: Manifest) -> Iterator[str]:
    for name, fingerprint in manifest.made_from.items():
        yield f"  made from {name} {fingerprint[:16]}"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        text = ", ".join(f"{name} {_short(inner)}" for name, inner in value.items())
    elif isinstance(value, list):
        text = ", ".join(_short(inner) for inner in value)
    else:
        text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _folders(manifest: Manifest) -> Iterator[str]:
    """One line per folder: its number of files and their bytes."""
    found: dict[str, list[int]] = {}
    for name, entry in manifest.files.items():
        found.setdefault(Path(name).parent.as_posix(), []).append(entry.bytes)
    for name, sizes in sorted(found.items()):
        plural = "" if len(sizes) == 1 else "s"
        yield f"  {name}/ {len(sizes):,} file{plural}, {sum(sizes):,} bytes"


def _tokens(shards: TokenShards) -> Iterator[str]:
    """Bytes per image, and the first training image: its grid, its codes, its class or captions."""
    facts = shards.facts
    tars = sum(entry.bytes for name, entry in shards.manifest.files.items() if name.endswith(".tar"))
    images = sum(facts.counts.values())
    path = shards.paths("train")[0]
    block = next(read_token_shard(path))
    check_block(block, facts, f"{path}, block 0")
    plain = f"{facts.num_kept * 2 + -(-facts.num_positions // 8):,} are codes and bitmask"
    if block.offsets is not None:
        mean = float(block.lengths.mean())
        plain = f"about {2 * mean + 4 + -(-facts.num_positions // 8):,.1f} are codes, offset and bitmask"
    yield f"  {tars / images:,.1f} bytes per image in tars, of which {plain}"
    if block.offsets is not None:
        fewest, most = block.lengths.min(), block.lengths.max()
        yield f"  {mean:,.1f} codes per image in its first block, {fewest} … {most}"
    source = "" if block.sources is None else f" ({block.sources[0]})"
    yield f"  for example {block.keys[0]}{source} of {path.relative_to(shards.folder)}:"
    yield from (f"    {row}" for row in grid_of(block, facts, 0))
    yield f"    codes {_short(block.codes_of(0).tolist())}"
    if block.cls is not None and facts.classes is not None:
        yield f"    class {facts.classes[int(block.cls[0])]}"
    if block.text is not None and block.caption_count is not None:
        tokenizer = TextTokenizer.load(shards.tokenizer)
        for caption in block.text[0, : int(block.caption_count[0])]:
            yield f"    caption {tokenizer.decode(caption.tolist())}"


def grid_of(block: TokenBlock, facts: TokenFacts, image: int) -> list[str]:
    """The rows of an image's grid: ■ for a kept cell, · for the others."""
    height, width = facts.grid
    kept = set(flat_positions(block.kept[image : image + 1], facts.num_positions).tolist())
    return [" ".join("■" if y * width + x in kept else "·" for x in range(width)) for y in range(height)]


def main() -> None:
    """The command line."""
    parser = parser_of("shards.describe", __doc__)
    parser.add_argument("folder", type=Path, help="an artifact, such as artifacts/tokens")
    with mistakes_in_one_line():
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # an ASCII-only terminal shows ? for ■
        sys.stdout.write(describe(parser.parse_args().folder))


if __name__ == "__main__":
    main()
