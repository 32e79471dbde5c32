"""How a score was measured: a number says nothing without it, and unlike protocols are not compared."""

import importlib.metadata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from evaluation.reference import Reference
from evaluation.scores import Score
from workspace.errors import UserError
from workspace.manifest import read_json, write_json

NAME = "protocol.json"
MUST_MATCH = ("reference", "reference_split", "reference_count", "count", "resize", "features", "estimators")


@dataclass(frozen=True)
class Protocol:
    """How the numbers of one metrics.json came about.

    Attributes:
        reference: fingerprint of the reference artifact.
        reference_split: train or val.
        reference_count: real images behind the reference.
        count: images that were scored.
        resize: what was done to them before the network.
        features: the network and the SHA-256 of its weights.
        estimators: name of each number → how it was estimated.
        settings: what made the images (sampling or reconstruction settings).
        seed: of what made them.
        made_from: name of each artifact that they came from → its fingerprint.
        versions: package → version.
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
        return cls(**values)

    def conflicts(self, other: "Protocol", numbers: frozenset[str]) -> list[str]:
        """Why the named numbers of two protocols may not be compared, a line a reason; none if they may."""
        found = []
        for name in MUST_MATCH:
            mine, others = getattr(self, name), getattr(other, name)
            if name == "estimators":
                mine, others = (
                    {key: value for key, value in arm.items() if key in numbers} for arm in (mine, others)
                )
            if mine != others:
                found.append(f"{name}: {mine} against {others}")
        return found

    def differences(self, other: "Protocol") -> list[str]:
        """What else differs and is shown beside the numbers: settings, seed, versions, artifacts."""
        found = []
        for name in ("settings", "seed", "made_from", "versions"):
            mine, others = getattr(self, name), getattr(other, name)
            if mine != others:
                found.append(f"{name}: {mine} against {others}")
        return found


@dataclass(frozen=True)
class Made:
    """Where scored images come from: how many, under which settings and seed, from which artifacts."""

    count: int
    settings: Mapping[str, Any]
    seed: int
    made_from: Mapping[str, str]


def write_scores(
    scores: Mapping[str, Score], reference: Reference, split: str, made: Made, folder: Path
) -> None:
    """Write metrics.json, the numbers, and beside it protocol.json, how they came about.

    Args:
        scores: by name.
        reference: what the images were held against.
        split: its split.
        made: what the images are.
        folder: for both files.
    """
    facts = reference.facts
    write_json(folder / "metrics.json", {name: score.value for name, score in scores.items()})
    Protocol(
        reference=reference.manifest.fingerprint,
        reference_split=split,
        reference_count=facts.images[split],
        count=made.count,
        resize=facts.resize,
        features=facts.network,
        estimators={name: score.estimator for name, score in scores.items()},
        settings=made.settings,
        seed=made.seed,
        made_from=made.made_from,
        versions=package_versions(),
    ).write(folder)


def package_versions() -> dict[str, str]:
    """Versions of the packages that scores depend on; those that are not installed are left out."""
    found = {}
    for package in ("clean-fid", "numpy", "scipy", "torch"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
