"""Protocols: how a score was measured. Numbers with different protocols must not be compared."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from workspace.errors import UserError
from workspace.exact.manifest import read_json, write_json
from workspace.progress import say
from workspace.versions import OF_SCORES, versions

NAME = "protocol.json"
MUST_MATCH = ("reference", "reference_split", "reference_count", "count", "resize", "features", "estimators")
SHOWN = ("settings", "seed", "made_from", "versions", "warnings")


@dataclass(frozen=True)
class Score:
    """A number and its estimator, as text."""

    value: float
    estimator: str


Scores = Mapping[str, Score]


@dataclass(frozen=True)
class Protocol:
    """How the numbers in a metrics.json were measured.

    Attributes:
        reference: fingerprint of the reference artifact, or of the data set on which the numbers were counted.
        reference_split: train or val.
        reference_count: number of real images in the reference.
        count: number of scored images.
        resize: how they were resized before the network.
        features: the network and the SHA-256 of its weights; "none" if only pixels or codes were compared.
        estimators: name of each number → its estimator.
        settings: the settings that produced the images (sampling, reconstruction or training).
        seed: the seed that produced them.
        made_from: name of each artifact used → its fingerprint.
        versions: package → version.
        warnings: what a reader of the numbers must know, one sentence each.
    """

    reference: str
    reference_split: str
    reference_count: int
    count: int
    resize: str
    features: str
    estimators: Mapping[str, str]
    settings: Mapping[str, Any]
    seed: int
    made_from: Mapping[str, str]
    versions: Mapping[str, str]
    warnings: Sequence[str] = ()

    def write(self, folder: Path) -> None:
        """Write protocol.json beside the numbers."""
        write_json(folder / NAME, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "Protocol":
        """Read protocol.json.

        Raises:
            UserError: it is missing, or was written by another version.
        """
        values = read_json(folder / NAME)
        names = [field.name for field in fields(cls)]
        if sorted(values) != sorted(names):
            raise UserError(
                f"{folder / NAME} holds {', '.join(sorted(values))}; expected {', '.join(sorted(names))}"
            )
        return cls(**{**values, "warnings": tuple(values["warnings"])})

    def conflicts(self, other: "Protocol", numbers: frozenset[str]) -> list[str]:
        """Why the named numbers of two protocols may not be compared, one line per reason; none if they may."""
        found: list[str] = []
        for name in MUST_MATCH:
            mine, others = getattr(self, name), getattr(other, name)
            if name == "estimators":
                mine, others = (
                    {key: value for key, value in arm.items() if key in numbers} for arm in (mine, others)
                )
            found += _unlike(name, mine, others)
        return found

    def differences(self, other: "Protocol") -> list[str]:
        """Other differences, shown beside the numbers: settings, seed, versions, artifacts; one line each."""
        return [line for name in SHOWN for line in _unlike(name, getattr(self, name), getattr(other, name))]


def _unlike(name: str, mine: Any, others: Any) -> Iterator[str]:
    """`name: mine against others` if they differ; for mappings one per differing entry, as `name.key`."""
    if isinstance(mine, Mapping) and isinstance(others, Mapping):
        for key in dict.fromkeys([*mine, *others]):
            yield from _unlike(f"{name}.{key}", mine.get(key, "–"), others.get(key, "–"))
    elif mine != others:
        yield f"{name}: {_told(mine)} against {_told(others)}"


def _told(value: Any) -> str:
    return ("; ".join(map(str, value)) or "none") if isinstance(value, (list, tuple)) else str(value)


@dataclass(frozen=True)
class Provenance:
    """The origin of scored images: their number, settings, seed and artifacts."""

    count: int
    settings: Mapping[str, Any]
    seed: int
    made_from: Mapping[str, str]


def write_numbers(scores: Scores, protocol: Protocol, folder: Path) -> None:
    """Write the numbers (metrics.json) and how they were measured (protocol.json); print the protocol's warnings.

    Args:
        scores: scores by name; their estimators are added to the protocol.
        protocol: the rest of the protocol.
        folder: folder for both files.
    """
    write_json(folder / "metrics.json", {name: score.value for name, score in scores.items()})
    replace(protocol, estimators={name: score.estimator for name, score in scores.items()}).write(folder)
    for warning in protocol.warnings:
        say(f"note: {warning}")


def counted(scores: Scores, data: str, split: str, provenance: Provenance, folder: Path) -> None:
    """Write numbers computed without a feature extractor, with their protocol.

    Args:
        scores: scores by name.
        data: fingerprint of the data set on which they were counted.
        split: its split.
        provenance: number of images, settings, seed and artifacts.
        folder: folder for both files.
    """
    protocol = Protocol(
        reference=data,
        reference_split=split,
        reference_count=provenance.count,
        count=provenance.count,
        resize="none",
        features="none",
        estimators={},
        settings=provenance.settings,
        seed=provenance.seed,
        made_from=provenance.made_from,
        versions=versions(OF_SCORES),
    )
    write_numbers(scores, protocol, folder)
