"""The report's summary: the model, the data, how much is kept, how good it is."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from evaluation.protocol import Protocol
from models.base.published import MQVAEFacts, StackformerFacts
from reporting.curves import Training
from reporting.numbers import StageNumbers, meaning, shown, with_interval
from reporting.origin import Origin
from shards.images import ImageFacts

HEADLINES = {"reconstruct": (r"psnr", r"(.*_)?r(fd|fid)"), "evaluate": (r"(.*_)?(fd|fid)", r"proxy_accuracy")}
"""Stage → names of its headline scores."""
DRAWN = "images_per_second_of_a_worker"


@dataclass(frozen=True)
class Fact:
    """An entry of the summary: name, value, and a tooltip."""

    name: str
    value: str
    about: str


@dataclass(frozen=True)
class Group:
    """A group of related facts."""

    title: str
    facts: list[Fact]
    headline: bool = False


def groups(
    data: ImageFacts,
    one: MQVAEFacts,
    two: StackformerFacts,
    mask_ratio: float,
    numbers: Mapping[str, StageNumbers],
    trainings: list[Training],
) -> list[Group]:
    """The summary: scores first, then data and models."""
    rates = {training.stage: training.rate for training in trainings}
    return [
        Group("Reconstructions", list(_headlines(numbers["reconstruct"], numbers)), headline=True),
        Group(
            "Samples",
            [*_headlines(numbers["evaluate"], numbers), *_rate("drawn, images/s", _drawn(numbers))],
            headline=True,
        ),
        Group(
            "Data",
            [
                Fact("source", data.kind, "the source's layout"),
                Fact("images", f"{data.counts['train']:,}", f"and {data.counts['val']:,} held out"),
                Fact(
                    "classes",
                    f"{len(data.classes)}" if data.classes else "none",
                    ", ".join(data.classes or ()),
                ),
                Fact("size", f"{data.image_size} × {data.image_size}", "pixels"),
            ],
        ),
        Group(
            "MQ-VAE",
            [
                Fact("cells kept", f"{one.num_kept} of {math.prod(one.grid)}", "N of L"),
                Fact("mask ratio", f"{100 * mask_ratio:g} %", "share of the cells that is not quantised"),
                Fact("codes K", f"{one.num_codes:,}", "entries of the codebook"),
                Fact("parameters", millions(one.parameters), f"{one.parameters:,}"),
                *_rate("trained, images/s", rates.get("train_mqvae")),
            ],
        ),
        Group(
            "Stackformer",
            [
                Fact("condition", two.condition, "what generation is conditioned on"),
                Fact("parameters", millions(two.parameters), f"{two.parameters:,}"),
                *_rate("trained, images/s", rates.get("train_stackformer")),
            ],
        ),
    ]


def where_from(origin: Origin | None) -> Iterator[Group]:
    """The run's origin, where it is known."""
    if origin is None:
        return
    differ = len(origin.settings)
    yield Group(
        "Where it came from",
        [
            Fact("revision", origin.revision, "of the code, in Git"),
            Fact("date", origin.date[:10], origin.date),
            Fact(
                "preset",
                origin.preset + (f" and {differ} setting{'s' * (differ > 1)}" if differ else ""),
                "; ".join(origin.settings) or "every setting is the preset's",
            ),
            Fact("data", origin.data.rpartition(" ")[2], origin.data),
        ],
    )


def lede(data: ImageFacts, one: MQVAEFacts, two: StackformerFacts) -> str:
    """The page's first paragraph, for readers who do not know the paper."""
    classes = f" of {len(data.classes):,} classes" if data.classes else ""
    keeps = (
        f"keeps the {one.num_kept:,} that matter most and" if one.num_kept < math.prod(one.grid) else "and"
    )
    told = {"none": "random numbers", "class": "the name of a class", "text": "a sentence"}[two.condition]
    return (
        f"A picture generator in two stages, trained on {data.counts['train']:,} images{classes}. The first, "
        f"MQ-VAE, divides an image into {one.grid[0]} × {one.grid[1]} cells, {keeps} writes each as one of "
        f"{one.num_codes:,} codes; its decoder reconstructs the whole image from them. The second, "
        f"Stackformer, generates new codes and their positions from {told}."
    )


def millions(count: int) -> str:
    """A parameter count: 0.90 M, 307 M."""
    return f"{count / 1e6:.2f} M" if count < 1e7 else f"{count / 1e6:,.1f} M"


def protocol_line(protocol: Protocol) -> str:
    """A protocol in one line."""
    real = f"{protocol.reference_count:,} real ones ({protocol.reference_split})"
    features = re.sub(r"[0-9a-f]{64}", lambda found: f"{found[0][:12]}…", protocol.features)
    return (
        f"{protocol.count:,} images against {real} of reference {protocol.reference[:12]}…; "
        f"features {features}; resize {protocol.resize}; seed {protocol.seed}"
    )


def _headlines(of: StageNumbers, numbers: Mapping[str, StageNumbers]) -> Iterator[Fact]:
    for pattern in HEADLINES[of.stage]:
        for name in of.values:
            if re.fullmatch(pattern, name) and of.protocol is not None:
                scale = _scale(name, of.stage, numbers)
                about = "".join(f"{text}; " for text in scale)
                value = _short(name, of.values) + (f" ({'; '.join(scale)})" if scale else "")
                yield Fact(name, value, f"{meaning(name).words}: {about}{protocol_line(of.protocol)}")


def _scale(name: str, stage: str, numbers: Mapping[str, StageNumbers]) -> list[str]:
    """What a distance is to be held against: that of real images, and for samples that of reconstructions."""
    found = re.fullmatch(r"(.*_)?r?(fd|fid)", name)
    if found is None:
        return []
    start, short = found[1] or "", found[2]
    others = [("real images", "reference", f"{start}{short}_train_val")]
    if stage == "evaluate":
        others.append(("reconstructions", "reconstruct", f"{start}r{short}"))
    return [
        f"{words} {shown(numbers[where].values[other])}"
        for words, where, other in others
        if where in numbers and other in numbers[where].values
    ]


def _short(name: str, values: Mapping[str, float]) -> str:
    if name == "psnr":
        return f"{values[name]:.2f} dB"
    return f"{100 * values[name]:.1f} %" if "accuracy" in name else with_interval(name, values)


def _rate(name: str, rate: float | None) -> Iterator[Fact]:
    if rate is not None:
        yield Fact(
            name, f"{rate:,.0f}", "median over training" if name.startswith("trained") else "per worker"
        )


def _drawn(numbers: Mapping[str, StageNumbers]) -> float | None:
    """Samples per second and worker, if the stage measured them."""
    return numbers["sample"].values.get(DRAWN) if "sample" in numbers else None
