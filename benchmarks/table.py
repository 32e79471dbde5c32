"""Render the results: benchmarks/results/README.md in full, its charts, and the speed tables of README and docs/speed.md.

python -m benchmarks.table           write both
python -m benchmarks.table --check   exit status 1 where either is out of step with the JSON files
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, ROOT
from reporting.curves import HEIGHT, WIDTH
from reporting.line_chart import Curve, chart, side_by_side
from reporting.markdown import table
from workspace.commands import parser_of
from workspace.errors import UserError
from workspace.exact.manifest import read_json
from workspace.progress import say

BEGIN = "<!-- speed: rendered by `python -m benchmarks.table` from benchmarks/results -->"
END = "<!-- speed: end -->"
SHOWN = (
    "sampling_batch_01_bf16",
    "sampling_batch_32_bf16",
    "mqvae_training_f4",
    "tokens_reading",
    "tokenize",
    "shard_64",
    "frechet",
    "fixed_costs",
)
"""The rows in README, in this order; docs/speed.md has every row with a bar."""
Read = Mapping[str, Any]


def read_results(folder: Path = RESULTS) -> list[Read]:
    """Every measurement, by row, then by name."""
    found = [read_json(path) for path in folder.glob("*.json")]
    return sorted((each for each in found if "row" in each), key=lambda each: (each["row"], each["name"]))


def figure(value: float) -> str:
    """Four significant digits, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _figure(result: Read, name: str) -> str:
    value = result[name]["value"] if name == "floor" and result[name] else result[name]
    return "–" if value is None else f"{figure(value)} {result['unit']}"


def _ratio(result: Read) -> str:
    if result["ratio"] is None:
        return "–"
    low, high = result["spread"]
    return f"{result['ratio']:.3g}× ({low:.3g} … {high:.3g})"


def verdict(result: Read) -> str:
    """Met, not met, not measured, or "" without a bar."""
    if result["ours"] is None:
        return "not measured"
    return {True: "met", False: "**not met**", None: ""}[result["met"]]


def shown(results: Sequence[Read]) -> list[Read]:
    """README's rows."""
    return sorted(
        (each for each in results if each["name"] in SHOWN), key=lambda each: SHOWN.index(each["name"])
    )


def short_table(results: Sequence[Read]) -> str:
    """The rows that have a bar and were measured."""
    rows = []
    for result in results:
        if result["bar"] is None or result["ours"] is None:
            continue
        instead = f"{_figure(result, 'reference')}, {result['against']}" if result["against"] else "–"
        ours, ratio = _figure(result, "ours"), _ratio(result)
        rows.append((result["title"], ours, instead, ratio, result["bar"], verdict(result)))
    return table(["", "ours", "instead of", "ratio (spread)", "bar", ""], rows).removesuffix("\n")


def charts(results: Sequence[Read]) -> dict[str, str]:
    """The memory of stages, as SVG by file name, where it was measured."""
    memory = [
        each for each in results if each["name"].startswith("growth_memory_") and each["ours"] is not None
    ]
    if not memory:
        return {}
    curves = [_memory_of(each["name"].removeprefix("growth_memory_"), each["shapes"]) for each in memory]
    drawn = chart("MiB of a stage's process", "training images", curves, pairs=False)
    return {"growth_memory.svg": side_by_side([drawn], WIDTH, HEIGHT + 4)}


def _memory_of(stage: str, shapes: Mapping[str, Any]) -> Curve:
    return Curve(stage, [shapes["images"], shapes["images_large"]], [shapes["MiB"], shapes["MiB_large"]])


def full_text(results: Sequence[Read], pictures: Sequence[str] = ()) -> str:
    """results/README.md: every measurement with its floor, note, shapes and where it was taken."""
    lines = [
        "# Results",
        "",
        "Rendered by `python -m benchmarks.table` from the JSON files beside it; `make bench` makes those.",
        "",
    ]
    rows = [
        (
            f"{result['row']}",
            result["title"],
            *(_figure(result, name) for name in ("ours", "reference")),
            _ratio(result),
            _figure(result, "floor"),
            result["bar"] or "",
            verdict(result),
        )
        for result in results
    ]
    heads = ["row", "", "ours", "reference", "ratio (spread)", "floor", "bar", ""]
    lines.append(table(heads, rows).removesuffix("\n"))
    for name in pictures:
        lines += ["", f"![{name.removesuffix('.svg')}]({name})"]
    for result in results:
        lines += ["", f"## Row {result['row']}: {result['title']}", "", *_details(result)]
    return "\n".join(lines) + "\n"


def _details(result: Read) -> list[str]:
    shapes = ", ".join(f"{name} {value}" for name, value in result["shapes"].items())
    machine = result["machine"]
    where = machine.get("gpu") or machine["processor"]
    told = [
        f"- Against: {result['against']}" if result["against"] else "",
        f"- Floor: {result['floor']['how']}" if result["floor"] else "",
        f"- Note: {result['note']}" if result["note"] else "",
        f"- Shapes: {shapes}" if shapes else "",
        f"- `{result['command']}`, commit {result['commit']}, torch {result['versions']['torch']}, {where}, "
        f"{machine['torch_threads']} of {machine['cores']} cores, load {machine['load']} when written",
    ]
    return [each for each in told if each]


def with_table(text: str, table: str) -> str:
    """A page's text with the table between its markers.

    Raises:
        UserError: the markers are not there, once each and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise UserError(f"expected the two lines {BEGIN!r} and {END!r}, once each")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def rendered(root: Path = ROOT) -> dict[Path, str]:
    """The content that each file should have."""
    results = read_results(root / "benchmarks" / "results")
    folder = root / "benchmarks" / "results"
    pages = {root / "README.md": shown(results), root / "docs" / "speed.md": results}
    pictures = charts(results)
    return {
        **{folder / name: text for name, text in pictures.items()},
        folder / "README.md": full_text(results, sorted(pictures)),
        **{
            page: with_table(page.read_text(encoding="utf-8"), short_table(rows))
            for page, rows in pages.items()
        },
    }


def main() -> None:
    """Write, or check."""
    parser = parser_of("benchmarks.table", __doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit status 1 if a table is out of date"
    )
    check = parser.parse_args().check
    for path, text in rendered().items():
        now = path.read_text(encoding="utf-8") if path.is_file() else None
        if check and now != text:
            say(f"{path.relative_to(ROOT)} is out of step with the results: run `python -m benchmarks.table`")
            sys.exit(1)
        if now != text:
            path.write_text(text, encoding="utf-8")
            say(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
