"""How a score was measured: a number says nothing without it, and unlike protocols are not compared."""

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
    """A number and how it was estimated."""

    value: float
    estimator: str


Scores = Mapping[str, Score]


@dataclass(frozen=True)
class Protocol:
    """How the numbers of one metrics.json came about.

    Attributes:
        reference: fingerprint of the reference artifact, or of the data set that the numbers were counted on.
        reference_split: train or val.
        reference_count: real images behind the reference.
        count: images that were scored.
        resize: how they were resized before the network.
        features: the network and the SHA-256 of its weights; "none" where pixels or codes alone were compared.
        estimators: name of each number → how it was estimated.
        settings: what made the images (sampling, reconstruction or training settings).
        seed: of what made them.
        made_from: name of each artifact that they came from → its fingerprint.
        versions: package → version.
        warnings: what a reader of the numbers must know, a sentence each.
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
        """Write protocol.json, beside the numbers."""
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
        """What else differs and is shown beside the numbers: settings, seed, versions, artifacts; a line each."""
        return [line for name in SHOWN for line in _unlike(name, getattr(self, name), getattr(other, name))]


def _unlike(name: str, mine: Any, others: Any) -> Iterator[str]:
    """`name: mine against others` where they differ; of mappings each entry that does, as `name.key`."""
    if isinstance(mine, Mapping) and isinstance(others, Mapping):
        for key in dict.fromkeys([*mine, *others]):
            yield from _unlike(f"{name}.{key}", mine.get(key, "–"), others.get(key, "–"))
    elif mine != others:
        yield f"{name}: {_told(mine)} against {_told(others)}"


def _told(value: Any) -> str:
    return ("; ".join(map(str, value)) or "none") if isinstance(value, (list, tuple)) else str(value)


@dataclass(frozen=True)
class Provenance:
    """Where scored images come from: how many, under which settings and seed, from which artifacts."""

    count: int
    settings: Mapping[str, Any]
    seed: int
    made_from: Mapping[str, str]


def write_numbers(scores: Scores, protocol: Protocol, folder: Path) -> None:
    """Write metrics.json, the numbers, and beside it protocol.json, how they came about; say its warnings.

    Args:
        scores: by name; their estimators go into the protocol.
        protocol: the rest of it.
        folder: for both files.
    """
    write_json(folder / "metrics.json", {name: score.value for name, score in scores.items()})
    replace(protocol, estimators={name: score.estimator for name, score in scores.items()}).write(folder)
    for warning in protocol.warnings:
        say(f"note: {warning}")


def counted(scores: Scores, data: str, split: str, provenance: Provenance, folder: Path) -> None:
    """Write numbers that no feature extractor took part in, with their protocol.

    Args:
        scores: by name.
        data: fingerprint of the data set that they were counted on.
        split: its split.
        provenance: on how many images, under which settings and seed, from which artifacts.
        folder: for both files.
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
