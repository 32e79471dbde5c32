"""docs/api.md from the docstrings of the library: python docs/api.py (`make docs`).

The code is read, not imported. What is shown is named below, by room; a name that is not found stops it.
"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {
    "models": (
        "MQVAE", "MQVAEConfig", "Tokens", "Stackformer", "StackformerConfig", "NetworkConfig", "sample", "Sampler",
        "SamplingSettings", "Truncation", "Sampled",
    ),
    "shards": (
        "ImageShards", "ImageIndex", "ImageSample", "to_tensor", "to_float", "to_uint8", "TokenShards", "TokenFacts",
        "TokenSplit", "TokenBlock", "read_token_shard", "write_token_shard", "pack_positions", "unpack_positions",
        "TextTokenizer",
    ),
    "inference": (
        "KeyedImages", "encode", "TokenArrays", "decode", "reconstruct", "Reconstructed", "from_other_counts", "ImageSampler",
        "Conditions", "conditions_of",
    ),
    "evaluation": (
        "Extractor", "Features", "load_extractor", "install_pretrained", "moments", "frechet_distance", "frechet_interval",
        "kernel_distance", "inception_score", "precision_recall", "LPIPS", "load_lpips",
    ),
}  # fmt: skip
"""The names that users of the library start with, by room."""
HEAD = """# The library

Rendered by `make docs` from the docstrings. Every stage is made of such calls, and so are the
[lines of Python](../README.md#two-commands) in README. The letters at the end of a tensor's name are its dimensions:
B images, C channels, H × W pixels, L cells, N kept cells, D features, K codes. A folder is a `str` or a `pathlib.Path`.
"""
Function = ast.FunctionDef


def page(root: Path = ROOT) -> str:
    """The whole page.

    Raises:
        SystemExit: a room has no such name.
    """
    parts = [HEAD.rstrip()]
    for room, names in ROOMS.items():
        found = {node.name: (path, node) for path, node in _definitions(root / room)}
        for name in names:
            if name not in found:
                raise SystemExit(f"{room}/ has no {name}: fix the list in docs/api.py")
            path, node = found[name]
            module = ".".join(_home(path, name).relative_to(root).with_suffix("").parts)
            parts += ["", f"## {name}", "", f"`from {module} import {name}`", *_described(node)]
    return "\n".join(parts) + "\n"


def _definitions(room: Path) -> Iterator[tuple[Path, ast.ClassDef | Function]]:
    for path in sorted(room.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                yield path, node


def _home(path: Path, name: str) -> Path:
    """The module from which to import a name: its package if that re-exports it, else its module."""
    package = ast.parse((path.parent / "__init__.py").read_text(encoding="utf-8")).body
    passed_on = [alias.name for node in package if isinstance(node, ast.ImportFrom) for alias in node.names]
    return path.parent if name in passed_on else path


def _described(node: ast.ClassDef | Function) -> Iterator[str]:
    if isinstance(node, Function):
        yield from ("", f"`{_signature(node)}`")
    yield from ("", _doc(node))
    for inner in node.body if isinstance(node, ast.ClassDef) else []:
        if isinstance(inner, Function) and _shown(inner):
            yield from ("", f"### `{_signature(inner, f'{node.name}.')}`", "", _doc(inner))


def _shown(node: ast.ClassDef | Function) -> bool:
    return not node.name.startswith("_") and ast.get_docstring(node) is not None


def _signature(node: Function, owner: str = "") -> str:
    if any(ast.unparse(decorator) in ("property", "cached_property") for decorator in node.decorator_list):
        return f"{owner}{node.name}: {ast.unparse(node.returns) if node.returns else ''}"
    arguments = ast.unparse(node.args).removeprefix("self, ").removeprefix("cls, ")
    returns = f" → {ast.unparse(node.returns)}" if node.returns else ""
    return f"{owner}{node.name}({'' if arguments in ('self', 'cls') else arguments}){returns}"


def _doc(node: ast.ClassDef | Function) -> str:
    """A docstring as Markdown: its sections in bold, their entries as a list."""
    lines = []
    for line in inspect.cleandoc(ast.get_docstring(node) or "").splitlines():
        if line in ("Args:", "Attributes:", "Raises:", "Returns:", "Yields:"):
            lines += [f"**{line.removesuffix(':')}**", ""]
        elif line.startswith("    ") and not line.startswith("     "):
            lines.append(f"- {line.strip()}")
        else:
            lines.append(line)
    return "\n".join(lines)


def main() -> None:
    """Write the page."""
    (ROOT / "docs" / "api.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
