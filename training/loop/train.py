"""The training loop of both models: micro-batches, one all-reduce per step, curves, checkpoints, resume.

A step is a set of micro-batches of fixed size, given to the workers in turn, so that its result does not depend on how
many workers there are but for the order of sums. Everything random is keyed by (seed, step, micro-batch) or by the
sample, so a resumed run is bit-identical to an uninterrupted one (one worker, CPU).
"""

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from settings.training import TrainingSettings
from training.curves import Curves, LiveView
from training.loop.checkpoints import (
    checkpoint_path,
    load_checkpoint,
    newest_whole,
    save_checkpoint,
)
from training.loop.group import from_first, reducer, sum_gradients
from training.loop.optimizers import Muon
from training.loop.watch import Admit, Watch, floats
from training.mirror import pull, push
from workspace.errors import UserError
from workspace.exact.seeds import micro_batch_seed
from workspace.progress import Progress
from workspace.runs import RunFolder

Batch_contra = TypeVar("Batch_contra", contravariant=True)
LINGERING_SECONDS = 60.0
"""How long a worker of a driver that was killed may keep writing before its successor gives up."""
ATTEMPTS = "attempts.jsonl"
"""One line per start of a training: the steps already done, and the number of workers."""


class Workers(Protocol):
    """The group of workers that train together, as seen by one of them."""

    @property
    def rank(self) -> int:
        """0 … size - 1."""

    @property
    def size(self) -> int:
        """Number of workers."""

    @property
    def device(self) -> torch.device:
        """The device of this worker."""


class TrainingModule(Protocol[Batch_contra]):
    """A model in training, as the loop sees it."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Everything whose state belongs in a checkpoint."""

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        """Optimisers by name."""

    def micro_step(self, batch: Batch_contra, step: int, share: float) -> dict[str, Tensor]:
        """Forward and backward of `share` times the loss of one micro-batch; returns its loss terms (scalars)."""

    def finish_step(
        self, step: int, reduce: Callable[[Tensor], Tensor], admit: Admit
    ) -> Mapping[str, Tensor | float]:
        """After gradients were summed over workers: clip, step, average; returns more numbers for the curves.

        Nothing moves where `admit` says so of the gradients' norms; tensors that are returned stay on the device.
        """

    def validate(self, step: int) -> dict[str, float]:
        """Numbers on held-out data (called on rank 0 alone)."""


@dataclass(frozen=True)
class TrainingFolder:
    """Paths of a training run.

    Attributes:
        work: checkpoints, and a line for each start.
        metrics: curves.
        progress_file: for dashboards.
        mirror: a URL that checkpoints are copied to, and taken from where `work` lacks them; or None.
    """

    work: Path
    metrics: Path
    progress_file: Path
    mirror: str | None = None

    @classmethod
    def of(cls, run: RunFolder, checkpoints: str | None) -> "TrainingFolder":
        """In a run's folder, absolute, with a mirror below `compute.checkpoints`."""
        work, metrics, progress = (path.absolute() for path in (run.work, run.metrics, run.progress_file))
        return cls(work, metrics, progress, run.mirror(checkpoints))


def train(
    training_module: TrainingModule[Batch_contra],
    batches: Callable[[int], Sequence[Batch_contra]],
    settings: TrainingSettings,
    workers: Workers,
    folder: TrainingFolder,
) -> None:
    """Train to `settings.steps`, from the newest checkpoint in `folder.work` if there is one.

    Args:
        training_module: the model in training.
        batches: step → this worker's micro-batches of that step, in the order of `settings.mine`.
        settings: how long and how often.
        workers: the group.
        folder: where checkpoints and curves go.

    Raises:
        UserError: a loss term or a gradient is not finite; step, term and the last good checkpoint are named.
    """
    watch = Watch(workers.device, folder.work)
    with _alone(folder.work) if workers.rank == 0 else nullcontext():
        start = _resume(training_module, workers, folder)
        for optimizer in training_module.optimizers.values():
            if isinstance(optimizer, Muon):
                optimizer.share(workers.rank, workers.size, reducer(workers.size))
        recorder = _Recorder(folder, settings, start, workers.size) if workers.rank == 0 else None
        try:
            for step in range(start, settings.steps):
                numbers = step_once(training_module, batches(step), step, settings, workers, watch)
                terms = None
                if settings.due(step + 1):  # numbers leave the device here, and nowhere else
                    watch.look()
                    terms = floats(numbers)
                if recorder is not None:
                    recorder.after_step(step + 1, terms, training_module)
                if recorder is not None and settings.keeps(step + 1):
                    _keep(training_module, step + 1, folder)
        finally:
            if recorder is not None:
                recorder.close()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock on a run's folder: a worker whose driver was killed may live a moment longer.

    Raises:
        UserError: it lives on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LINGERING_SECONDS
    with (folder / "writing.lock").open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise UserError(f"another process trains in {folder}: wait for it, or stop it") from error
                time.sleep(0.1)
        yield


def _resume(training_module: TrainingModule[Batch_contra], workers: Workers, folder: TrainingFolder) -> int:
    """Load the newest complete checkpoint (the one that rank 0 finds) on all workers; returns the number of steps done."""
    if folder.mirror is not None:
        pull(folder.mirror, folder.work)
    found = newest_whole(folder.work) if workers.rank == 0 else None
    steps = 0 if found is None else int(found.name.removeprefix("step-"))
    done = from_first(steps, workers.size, workers.device)
    path = checkpoint_path(folder.work, done)
    return load_checkpoint(path, training_module.modules, training_module.optimizers) if done else 0


def _keep(training_module: TrainingModule[Batch_contra], done: int, folder: TrainingFolder) -> None:
    """Write a checkpoint, and copy it to the mirror if there is one."""
    path = save_checkpoint(folder.work, done, training_module.modules, training_module.optimizers)
    if folder.mirror is not None:
        push(path, folder.mirror)


def step_once(
    training_module: TrainingModule[Batch_contra],
    batches: Sequence[Batch_contra],
    step: int,
    settings: TrainingSettings,
    workers: Workers,
    watch: Watch,
) -> dict[str, Tensor | float]:
    """One optimiser step over the global batch; returns loss terms (means over it) and the training module's numbers."""
    for optimizer in training_module.optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    share = 1 / settings.micro_batches
    sums: dict[str, Tensor] = {}
    for index, batch in zip(settings.mine(workers.rank, workers.size), batches, strict=True):
        # per micro-batch, not per worker: dropout then does not depend on how many workers there are
        torch.manual_seed(micro_batch_seed(settings.seed, step, index))
        for name, value in training_module.micro_step(batch, step, share).items():
            sums[name] = sums.get(name, torch.zeros_like(value)) + share * value.detach()
    reduce = reducer(workers.size)
    sum_gradients(training_module.optimizers, workers.size)
    # one all-reduce for all terms; in float64, so that the order of the workers hardly shows
    totals = reduce(torch.stack([value.double() for value in sums.values()])).unbind()
    watch.begin(step)
    watch.admit({f"the loss term {name}": total for name, total in zip(sums, totals, strict=True)})
    return dict(zip(sums, totals, strict=True)) | dict(training_module.finish_step(step, reduce, watch.admit))


class _Recorder:
    """Rank 0's bookkeeping: bar, curves, validation."""

    def __init__(self, folder: TrainingFolder, settings: TrainingSettings, start: int, workers: int) -> None:
        self.settings = settings
        with (folder.work / ATTEMPTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"steps_done": start, "workers": workers}) + "\n")
        self.train = Curves(folder.metrics / "curves.tsv", start)
        self.validation = Curves(folder.metrics / "validation.tsv", start)
        self.live = LiveView(folder.metrics / "live", self.train, self.validation)
        self.bar = Progress("training", settings.steps, "steps", folder.progress_file, start)
        self.bar.__enter__()
        self._clock, self._counted = time.monotonic(), start

    def after_step(
        self, done: int, terms: dict[str, float] | None, training_module: TrainingModule[Batch_contra]
    ) -> None:
        """Update the bar; log and validate where due (`terms` is None where not)."""
        last = done == self.settings.steps
        shown = {name: value for name, value in (terms or {}).items() if name in ("loss", "code", "position")}
        self.bar.update(done, **shown, images_per_second=self.bar.rate * self.settings.global_batch)
        if terms is None:
            return
        if last or done % self.settings.log_every == 0:
            now = time.monotonic()
            rate = (done - self._counted) * self.settings.global_batch / max(now - self._clock, 1e-9)
            row = terms | {"samples_per_second": rate}
            self.train.add(done, row)
            self.live.add(done, "train", row)
            self._clock, self._counted = now, done
        if last or done % self.settings.validate_every == 0:
            numbers = training_module.validate(done)
            self.validation.add(done, numbers)
            self.live.add(done, "validation", numbers)
            self._clock, self._counted = time.monotonic(), done

    def close(self) -> None:
        """Close the bar and DVCLive."""
        self.bar.__exit__(None, None, None)
        self.live.close()
