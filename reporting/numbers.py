"""The stages' numbers in metrics/, with their meanings and protocols."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evaluation.protocol import NAME as PROTOCOL
from evaluation.protocol import Protocol
from workspace.errors import UserError
from workspace.exact.manifest import read_json

Better = Literal["higher", "lower", ""]
NORMAL_95 = 1.96
"""Standard deviations to either side that hold 95 % of a normal distribution."""

_MEANINGS: tuple[tuple[str, str, Better], ...] = (
    (r"psnr", "PSNR, dB", "higher"),
    (r"rfid", "rFID of reconstructions", "lower"),
    (r"fid", "FID of samples", "lower"),
    (r"(\w+_)rfd", "Fréchet distance of reconstructions", "lower"),
    (r"(\w+_)fd", "Fréchet distance of samples", "lower"),
    (r"(\w+_)?r?f(i)?d_(low|high)", "end of its 95 % interval", ""),
    (r"psnr_mean_image", "PSNR of the mean image, dB", ""),
    (r"psnr_above_mean_image", "PSNR above the mean image, dB", "higher"),
    (r"ssim", "SSIM", "higher"),
    (r"l1", "mean absolute difference", "lower"),
    (r"lpips.*", "LPIPS", "lower"),
    (r"codebook_usage", "share of codes used", "higher"),
    (r"codebook_perplexity", "perplexity of the codes", "higher"),
    (r"codebook_effective_rank", "effective rank of the codebook", "higher"),
    (
        r"codebook_neighbour_distance",
        "distance to a code's nearest other, in radii of the codebook",
        "higher",
    ),
    (r"(mask_auc)(_.*)?", "importance finds the object, AUC", "higher"),
    (r"(gradient_auc)(_.*)?", "gradient magnitude finds it, AUC", ""),
    (r"is_deviation", "its deviation over the splits", ""),
    (r"(\w+_)?kid", "kernel distance of samples", "lower"),
    (r"(\w+_)?kid_error", "its standard error", ""),
    (r"is", "Inception score", "higher"),
    (r"(\w+_)?precision", "precision", "higher"),
    (r"(\w+_)?recall", "recall", "higher"),
    (r"(\w+_)?nearest_train_ratio", "distance to the nearest training image (held-out images 1)", ""),
    (r"(\w+_)?close_copies", "nearer to training than 99 % of held-out images", "lower"),
    (r"(\w+_)fd_train_val", "Fréchet distance of real training images to held-out ones", ""),
    (r"shape_fit", "overlap with the requested shape, median", "higher"),
    (r"shape_edge_fit", "overlap of the rims, median", "higher"),
    (r"shape_(edge_)?fit_real", "the same of real images", ""),
    (r"grid_ratio_(cells|stem)_to_real", "visibility of the grid (real images 1)", ""),
    (r"grid_ratio_(cells|stem)(_real)?", "steps across borders ÷ others", ""),
    (r"proxy_accuracy(_.*)?", "requested label recognised by the proxy", "higher"),
    (r"shape_fit_\w+", "overlap with the requested shape, of one kind", "higher"),
    (r"shape_edge_fit_\w+", "overlap of the rims, of one kind", "higher"),
    (r"(within_class_)?variance_ratio", "variety relative to real images (1 = equal)", ""),
    (r"(\w+_)?(nll|nats|loss)(_\w+)?", "", "lower"),
    (r"(code_|position_)?bits_per_image", "NLL in bits per image", "lower"),
    (r"(code_|position_)?bits_per_image_(raw|stored)", "bits per image without a model", ""),
    (r".*per_second.*", "", "higher"),
    (r"parameters", "learned weights", ""),
)


@dataclass(frozen=True)
class Meaning:
    """A number's meaning: words for it, and which direction is better ("" if neither is)."""

    words: str
    better: Better


@dataclass(frozen=True)
class RunFacts:
    """The content of metrics/STAGE/run.json: seconds of work, the compute section, package versions, origin."""

    seconds: float
    compute: Mapping[str, Any]
    versions: Mapping[str, str]
    origin: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StageNumbers:
    """One stage's numbers.

    Attributes:
        stage: its name.
        values: name → number; nested ones as `outer.inner`.
        protocol: how scores were measured; None for the stage's own counts.
        run: None if the stage wrote no run.json.
    """

    stage: str
    values: Mapping[str, float]
    protocol: Protocol | None
    run: RunFacts | None


def meaning(name: str) -> Meaning:
    """The meaning of a metric's name."""
    for pattern, words, better in _MEANINGS:
        if re.fullmatch(pattern, name):
            return Meaning(words or name.replace("_", " "), better)
    return Meaning(name.replace("_", " "), "")


def by_meaning(values: Mapping[str, float]) -> dict[str, float]:
    """The same numbers, most important first: in the order of the meanings above, unknown ones last."""

    def place(name: str) -> int:
        found = (number for number, (pattern, _, _) in enumerate(_MEANINGS) if re.fullmatch(pattern, name))
        return next(found, len(_MEANINGS))

    return {name: values[name] for name in sorted(values, key=lambda name: (place(name), name))}


def shown(value: float) -> str:
    """A number for people: whole numbers with separators, others with four significant digits."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if size >= 1e-4 else f"{value:.2e}"


def interval_of(name: str, values: Mapping[str, float]) -> tuple[float, float] | None:
    """The ends of a number's 95 % interval: stored beside it, or ± 1.96 standard errors; None without either."""
    if f"{name}_low" in values and f"{name}_high" in values:
        return values[f"{name}_low"], values[f"{name}_high"]
    if f"{name}_error" in values and name in values:
        half = NORMAL_95 * values[f"{name}_error"]
        return values[name] - half, values[name] + half
    return None


def with_interval(name: str, values: Mapping[str, float]) -> str:
    """A number with its interval, to as many decimals as that makes sense of: 7.40 [6.98, 7.83]."""
    ends = interval_of(name, values)
    if ends is None or not math.isfinite(ends[1] - ends[0]) or ends[1] <= ends[0]:
        return shown(values[name])
    decimals = min(9, max(0, 1 - math.floor(math.log10((ends[1] - ends[0]) / 2))))
    value, low, high = (f"{number:,.{decimals}f}" for number in (values[name], *ends))
    return f"{value} [{low}, {high}]"


def without_ends(values: Mapping[str, float]) -> list[str]:
    """The names of numbers, less those that only say how wide another number's interval is."""
    ends = {f"{name}_{end}" for name in values for end in ("low", "high", "error")}
    return [name for name in values if name not in ends]


def within_interval(name: str, a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """Whether either side's number is within the other side's interval, so that the difference may be chance."""
    for one, other in ((a, b), (b, a)):
        ends = interval_of(name, one)
        if ends is not None and ends[0] <= other[name] <= ends[1]:
            return True
    return False


def duration(seconds: float) -> str:
    """Seconds for people: 8.3 s, 1 min 35 s, 2 h 5 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def read_values(path: Path) -> dict[str, float]:
    """The numbers of a metrics.json, flattened.

    Raises:
        UserError: it is missing, or holds something other than numbers.
    """
    return flat_values(read_json(path), str(path))


def flat_values(tree: Any, where: str, prefix: str = "") -> dict[str, float]:
    """Nested numbers flattened to `outer.inner` → number; null is left out.

    Raises:
        UserError: a value that is not a number.
    """
    if not isinstance(tree, dict):
        raise UserError(f"{where} holds {type(tree).__name__} where numbers by name were expected")
    found: dict[str, float] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= flat_values(value, where, f"{prefix}{name}.")
        elif isinstance(value, (int, float)):
            found[f"{prefix}{name}"] = float(value)
        elif value is not None:
            raise UserError(f"{where}: {prefix}{name} is {value!r}, expected a number")
    return found


def read_stage(folder: Path, stage: str) -> StageNumbers:
    """Numbers, protocol and run facts in metrics/STAGE; missing files count as empty."""
    numbers, run = folder / "metrics.json", folder / "run.json"
    return StageNumbers(
        stage=stage,
        values=by_meaning(read_values(numbers)) if numbers.is_file() else {},
        protocol=Protocol.read(folder) if (folder / PROTOCOL).is_file() else None,
        run=_run_facts(run) if run.is_file() else None,
    )


def _run_facts(path: Path) -> RunFacts:
    value = read_json(path)
    return RunFacts(float(value["seconds"]), value["compute"], value["versions"], value.get("origin") or {})


def read_all(root: Path) -> dict[str, StageNumbers]:
    """The numbers of every stage in metrics/, by stage name.

    Raises:
        UserError: there is no such folder, or reconstruct or evaluate wrote no numbers.
    """
    if not root.is_dir():
        raise UserError(f"{root} does not exist: run `dvc repro evaluate`")
    found = {path.name: read_stage(path, path.name) for path in sorted(root.iterdir()) if path.is_dir()}
    for stage in ("reconstruct", "evaluate"):
        if stage not in found or not found[stage].values:
            raise UserError(f"{root / stage / 'metrics.json'} does not exist: run `dvc repro {stage}`")
        if found[stage].protocol is None:
            raise UserError(f"{root / stage / PROTOCOL} does not exist: run `dvc repro {stage}`")
    return found


def flat(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings flattened to (`outer.inner`, text)."""
    found = []
    for name, value in tree.items():
        if isinstance(value, dict):
            found += flat(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            found.append((f"{prefix}{name}", text))
    return found
