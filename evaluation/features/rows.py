"""Features of many images: extracted per batch, stored per shard, read back as a whole.

Shapes: n images, D features, H heads, C logits.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from evaluation.features.interface import Extractor
from evaluation.features.labelled import LabelledImages
from evaluation.features.labels import UNKNOWN
from workspace.exact.manifest import atomic_path


@dataclass(frozen=True)
class FeatureRows:
    """An extractor's output for n images.

    Attributes:
        features: float32 [n, D].
        logits: float32 [n, C] for ImageNet's classes; C = 0 if not requested.
        classes: int64 [n], -1 unknown.
        expected: int64 [n, H], each head's true label, -1 unknown.
        predicted: int64 [n, H], each head's prediction.
        second: float32 [n, D₂], features of a second network; None without one.
    """

    features: NDArray[np.float32]
    logits: NDArray[np.float32]
    classes: NDArray[np.int64]
    expected: NDArray[np.int64]
    predicted: NDArray[np.int64]
    second: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """n."""
        return len(self.features)

    def save(self, path: Path) -> None:
        """Write as safetensors, atomically."""
        with atomic_path(path) as temporary:
            save_file({name: np.ascontiguousarray(rows) for name, rows in self._arrays().items()}, temporary)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read rows written by `save`."""
        return cls(**load_file(path))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """All rows of the parts (at least one), in order; empty parts are skipped."""
        parts = [part for part in parts if len(part)] or list(parts[:1])
        columns = [part._arrays() for part in parts]
        return cls(**{name: np.concatenate([part[name] for part in columns]) for name in columns[0]})

    def first(self, count: int) -> Self:
        """The first `count` rows."""
        return type(self)(**{name: rows[:count] for name, rows in self._arrays().items()})

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Its arrays by name, those of a second network only with one."""
        return {name: rows for name, rows in vars(self).items() if rows is not None}

    def of_second(self) -> Self | None:
        """The same images as the second network sees them, unlabelled by it; None without one."""
        if self.second is None:
            return None
        return replace(self, features=self.second, logits=self.logits[:, :0], second=None)

    def accuracy(self, heads: Sequence[str]) -> dict[str, float]:
        """Share of correct predictions among the rows with a known label, for each head with such rows."""
        found = {}
        for column, name in enumerate(heads):
            known = self.expected[:, column] != UNKNOWN
            if known.any():
                right = self.predicted[known, column] == self.expected[known, column]
                found[name] = float(right.mean())
        return found

    def accuracy_of_all(self, columns: Sequence[int]) -> float | None:
        """Share of rows predicted correctly in all these columns, among rows with all labels known; None without such rows."""
        expected, predicted = self.expected[:, columns], self.predicted[:, columns]
        known = (expected != UNKNOWN).all(axis=1)
        return float((expected == predicted)[known].all(axis=1).mean()) if known.any() else None


def extract(extractor: Extractor, batches: Iterable[LabelledImages], keep_logits: bool) -> FeatureRows:
    """Run an extractor over non-empty batches; without batches there are no rows."""
    parts = [_extract(extractor, batch, keep_logits) for batch in batches]
    return FeatureRows.concatenate(parts) if parts else _nothing(extractor)


def _nothing(extractor: Extractor) -> FeatureRows:
    no_labels = np.zeros((0, len(extractor.heads)), np.int64)
    none = np.zeros((0, extractor.dim), np.float32)
    return FeatureRows(none, np.zeros((0, 0), np.float32), np.zeros(0, np.int64), no_labels, no_labels.copy())


def _extract(extractor: Extractor, batch: LabelledImages, keep_logits: bool) -> FeatureRows:
    found = extractor(batch.images)
    count = len(batch.images)
    best = [found.logits[name].argmax(axis=1) for name in extractor.heads]
    return FeatureRows(
        features=found.features,
        logits=_imagenet(found.logits, count) if keep_logits else np.zeros((count, 0), np.float32),
        classes=batch.classes,
        expected=batch.expected,
        predicted=np.stack(best, axis=1).astype(np.int64) if best else np.zeros((count, 0), np.int64),
        second=found.second,
    )


def _imagenet(logits: Mapping[str, NDArray[np.float32]], count: int) -> NDArray[np.float32]:
    return logits["imagenet"] if "imagenet" in logits else np.zeros((count, 0), np.float32)
