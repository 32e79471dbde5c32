"""The court as Markdown: every chooser's numbers, its verdicts, and what it costs."""

import math
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from experiments.table import cell
from experiments.verdicts import Verdict
from reporting.markdown import table as table_of

Seeds = Sequence[Mapping[str, Any]]
"""One arm's numbers, seed by seed."""
NUMBERS = {
    "codes": "{codes}",
    "bits: codes + positions": "{code_bits} + {position_bits}",
    "PSNR, dB": "{psnr}",
    "rfd": "{rfd}",
    "fd": "{fd}",
    "second rfd": "{second_rfd}",
    "second fd": "{second_fd}",
    "nats: codes + positions": "{code_nats} + {position_nats}",
    "AUC": "{mask_auc}",
    "parameters": "{mqvae_parameters} + {stackformer_parameters}",
}
"""Head → cell, of the names of a run's numbers; a column that no run has is left out."""
DIGITS = {
    "psnr": 2,
    "rfd": 2,
    "fd": 2,
    "second_rfd": 2,
    "second_fd": 2,
    "code_nats": 1,
    "position_nats": 1,
    "mask_auc": 2,
}
"""After the point, of numbers that differ by seed; the others are the arm's."""
COSTS = {
    "mqvae": "MQ-VAE, training",
    "stackformer": "Stackformer, training",
    "sample": "sampling",
}


def markdown(
    table: Mapping[str, Any],
    runs: Mapping[str, Mapping[str, Mapping[str, Any]]],
    found: Sequence[Verdict],
    costs: Mapping[str, Mapping[str, float]],
) -> str:
    """The numbers, the verdicts against each of the table's arms in turn, and images per second of processor time."""
    titles = {row["arm"]: row["title"] for row in table["rows"]}
    known = {name for seeds in runs.values() for one in seeds.values() for name in one}
    shown = {head: text for head, text in NUMBERS.items() if known & _names(text)}
    rows = [
        [title, str(len(runs[arm])), *_numbers(list(runs[arm].values()), shown)]
        for arm, title in titles.items()
        if runs.get(arm)
    ]
    parts = [table_of(["chooser", "seeds", *shown], rows)]
    missing = [title for arm, title in titles.items() if not runs.get(arm)]
    if missing:
        parts.append(f"Not run yet: {'; '.join(missing)}.\n")
    for against in table["against"]:
        part = [one for one in found if one.against == against]
        if part:
            parts += [f"Against: {titles[against]}.\n", _against(part, list(table["margins"]), titles)]
    if costs:
        rows = [
            [title, *(f"{costs[arm][name]:.3g}" for name in COSTS)]
            for arm, title in titles.items()
            if arm in costs
        ]
        parts.append(table_of(["images per second", *COSTS.values()], rows))
    return "\n".join(parts)


def _numbers(seeds: Seeds, texts: Mapping[str, str]) -> list[str]:
    """The cells of one arm."""
    names = {name for one in seeds for name in one}
    shown = {name: _shown(name, [one for one in seeds if name in one]) for name in names - {"commit"}}
    missing = {name for text in texts.values() for name in _names(text)} - set(shown)
    return [text.format(**shown, **dict.fromkeys(missing, "–")) for text in texts.values()]


def _names(text: str) -> set[str]:
    """What a cell's text is made of."""
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def _shown(name: str, seeds: Seeds) -> str:
    values = [float(one[name]) for one in seeds]
    if name in DIGITS:
        return cell(values, DIGITS[name] if max(values) < 100 else 0 if "fd" in name else 1)
    return f"{values[0] / 1e6:.2f} M" if name.endswith("_parameters") else f"{values[0]:.0f}"


def _against(found: Sequence[Verdict], columns: Sequence[str], titles: Mapping[str, str]) -> str:
    """A row for each arm, a column for each number that is judged."""
    rows = []
    for arm in dict.fromkeys(one.arm for one in found):
        by_column = {one.column: one for one in found if one.arm == arm}
        seeds = next(iter(by_column.values())).seeds
        rows.append([titles[arm], str(seeds), *(_verdict(by_column[column]) for column in columns)])
    return table_of(["chooser", "seeds", *columns], rows)


def _verdict(one: Verdict) -> str:
    """As **better**, with more bits: +2.1 ± 0.4."""
    if math.isinf(one.half):
        return f"one seed: {one.mean:+.3g}"
    prices = {"codes": one.at_equal_codes, "bits": one.at_equal_bits}
    price = next((price for price, says in prices.items() if says == "open"), None)
    spent = f", with {'fewer' if one.verdict == 'worse' else 'more'} {price}" if price else ""
    more = f" ({one.needed} seeds)" if one.verdict == "not resolved" else ""
    return f"**{one.verdict}**{spent}: {one.mean:+.3g} ± {one.half:.2g}{more}"
