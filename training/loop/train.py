"""The training loop of both models: micro-batches, sums over workers, curves, checkpoints, resume.

A step is a set of micro-batches of fixed size, dealt to the workers in turn, so that apart from the order of sums its result
does not depend on the number of workers. All randomness is keyed by (seed, step, micro-batch) or by sample, so a resumed run
is bit-identical to an uninterrupted one (one worker, CPU).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from settings.training import TrainingSettings
from training.events import require_writer
from training.loop.best import Best
from training.loop.checkpoints import (
    checkpoint_path,
    collected,
    load_checkpoint,
    newest_whole,
    nothing_else,
    save_checkpoint,
    seal,
)
from training.loop.group import from_first, reducer
from training.loop.lock import alone
from training.loop.optimizers import Muon
from training.loop.parallel import accumulating, is_split, summing
from training.loop.parts import PartsWriter
from training.loop.recorder import Recorder
from training.loop.watch import Admit, Watch, floats
from training.mirror import pull, pull_again, push
from workspace.errors import RegroupError
from workspace.exact.seeds import micro_batch_seed
from workspace.progress import say
from workspace.runs import REGROUP, RunFolder
from workspace.settings import Compute

Batch_contra = TypeVar("Batch_contra", contravariant=True)


class Workers(Protocol):
    """A group of workers that train together, as seen by one of them."""

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
    """The interface between a model in training and the loop."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Everything whose state belongs in a checkpoint."""

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        """Optimisers by name."""

    @property
    def scaler(self) -> GradScaler:
        """Scales losses where the precision is fp16, and else does nothing."""

    @property
    def parallel(self) -> Sequence[nn.Module]:
        """The modules, as `connect` wrapped them, that sum their gradients over workers in the backward pass."""

    def connect(self, size: int) -> None:
        """Join a group of `size` workers, before a checkpoint is loaded."""

    def micro_step(self, batch: Batch_contra, step: int, share: float) -> dict[str, Tensor]:
        """Forward and backward pass of `share` times one micro-batch's loss; returns its loss terms (scalars)."""

    def finish_step(
        self, step: int, reduce: Callable[[Tensor], Tensor], admit: Admit
    ) -> Mapping[str, Tensor | float]:
        """Clip, step and average, after gradients were summed over workers; returns more numbers for the curves.

        Changes nothing if `admit` rejects the gradients' norms; returned tensors stay on the device.
        """

    def validate(self, step: int) -> dict[str, float]:
        """Scores on held-out data (called on rank 0 only)."""


@dataclass(frozen=True)
class TrainingFolder:
    """Paths of a training run.

    Attributes:
        work: checkpoints, and one line per start.
        metrics: curves.
        progress_file: progress for dashboards.
        mirror: a URL that checkpoints are copied to, and from which they are fetched if `work` lacks them; or None.
        events: TensorBoard's files; None writes none.
    """

    work: Path
    metrics: Path
    progress_file: Path
    mirror: str | None = None
    events: Path | None = None

    @classmethod
    def of(cls, run: RunFolder, compute: Compute) -> "TrainingFolder":
        """In a run's folder, absolute, with a mirror below `compute.checkpoints` and what `compute.logging` asks for.

        Raises:
            UserError: TensorBoard's files are asked for, and their package is missing.
        """
        work, metrics, progress = (path.absolute() for path in (run.work, run.metrics, run.progress_file))
        events = None
        if "tensorboard" in compute.logging:
            require_writer()
            events = (run.root / "events").absolute()
        return cls(work, metrics, progress, run.mirror(compute.checkpoints), events)


def train(
    training_module: TrainingModule[Batch_contra],
    batches: Callable[[int], Sequence[Batch_contra]],
    settings: TrainingSettings,
    workers: Workers,
    folder: TrainingFolder,
) -> nn.Module:
    """Train to `settings.steps`, from the newest checkpoint in `folder.work` if there is one.

    Args:
        training_module: the model in training.
        batches: step → this worker's micro-batches of that step, in the order of `settings.mine`.
        settings: number of steps, and intervals for logging, validation and checkpoints.
        workers: the group.
        folder: paths for checkpoints and curves.

    Returns:
        What is to be published: averaged weights, those after the last step or, on rank 0, of the best validation.

    Raises:
        UserError: a loss term or a gradient is not finite in more than `settings.max_bad_steps` steps in a row; the error names
            the last step, the term and the last good checkpoint.
        RegroupError: a checkpoint was just written, and there is room for more workers.
    """
    watch = Watch(workers.device, folder.work, settings.max_bad_steps)
    training_module.connect(workers.size)
    best = Best(training_module.modules["ema"], settings)
    modules = dict(training_module.modules) | ({"best": best} if settings.watches_best else {})
    with alone(folder.work) if workers.rank == 0 else nullcontext():
        start = _resume(training_module, modules, workers, folder)
        _share_matrices(training_module, workers)
        recorder = Recorder(folder, settings, start, workers.size, best) if workers.rank == 0 else None
        keeper = _Keeper(training_module, modules, workers, folder)
        _catch_up(recorder, training_module, start, workers, keeper.split)
        try:
            skipped = 0
            for step in range(start, start if best.enough else settings.steps):
                numbers = step_once(training_module, batches(step), step, settings, workers, watch)
                terms = None
                if settings.due(step + 1):  # the only place where numbers leave the device
                    skipped, terms = watch.look(), floats(numbers)
                if recorder is not None:
                    recorder.after_step(step + 1, terms, training_module, skipped)
                elif keeper.split and settings.validates(step + 1):
                    training_module.validate(step + 1)  # rank 0 validates, and needs the others' parts
                stops = settings.validates(step + 1) and _is_enough(best, settings, workers)
                if stops or settings.keeps(step + 1):
                    keeper.keep(step + 1)
                if stops:
                    break
                if settings.keeps(step + 1) and step + 1 < settings.steps and _is_asked(workers, folder):
                    keeper.wait()
                    raise RegroupError("there is room for more workers")
            keeper.wait()
            if recorder is not None:
                recorder.publish(folder.work)
        finally:
            if recorder is not None:
                recorder.close()
    return best.published


def _share_matrices(training_module: TrainingModule[Batch_contra], workers: Workers) -> None:
    """Let each worker orthogonalise its part of the matrices that Muon trains."""
    for optimizer in training_module.optimizers.values():
        if isinstance(optimizer, Muon):
            optimizer.share(workers.rank, workers.size, reducer(workers.size))


def _catch_up(
    recorder: Recorder | None,
    training_module: TrainingModule[Batch_contra],
    start: int,
    workers: Workers,
    split: bool,
) -> None:
    """Look at the weights that were loaded; where they are split, and rank 0 validates them, it needs the others' parts."""
    if not start:
        return
    lacks = from_first(int(recorder is not None and recorder.lacks(start)), workers.size, workers.device)
    if recorder is not None:
        recorder.catch_up(start, training_module)
    elif split and lacks:
        training_module.validate(start)


def _is_enough(best: Best, settings: TrainingSettings, workers: Workers) -> bool:
    """Whether the run stops after this validation, which rank 0 alone has seen."""
    if settings.patience is None:
        return False
    stops = bool(from_first(int(best.enough), workers.size, workers.device))
    if stops and workers.rank == 0:
        beaten = f"did not beat the {settings.BEST_BY} {float(best.value):.5g} after {int(best.step):,} steps"
        say(
            f"stopped early: {settings.patience} validations in a row {beaten if best.step else 'were not finite'}"
        )
    return stops


def _resume(
    training_module: TrainingModule[Batch_contra],
    modules: Mapping[str, nn.Module],
    workers: Workers,
    folder: TrainingFolder,
) -> int:
    """Load the newest complete checkpoint, as found by rank 0, on all workers; returns the number of finished steps."""
    if folder.mirror is not None:
        pull(folder.mirror, folder.work)
    again = nothing_else if folder.mirror is None else partial(pull_again, folder.mirror)
    found = newest_whole(folder.work, again) if workers.rank == 0 else None
    steps = 0 if found is None else int(found.name.removeprefix("step-"))
    done = from_first(steps, workers.size, workers.device)
    path = checkpoint_path(folder.work, done)
    parts = modules, training_module.optimizers, training_module.scaler
    return load_checkpoint(path, *parts) if done else 0


class _Keeper:
    """Saves checkpoints, and copies them to the mirror if there is one."""

    def __init__(
        self,
        training_module: TrainingModule[Batch_contra],
        modules: Mapping[str, nn.Module],
        workers: Workers,
        folder: TrainingFolder,
    ) -> None:
        self.parts = modules, training_module.optimizers, training_module.scaler
        self.rank, self.folder = workers.rank, folder
        self.split = is_split(modules)
        self.writer = PartsWriter(workers.rank, self._seal) if self.split else None

    def _seal(self, beside: Path, facts: Mapping[str, Any]) -> None:
        self._mirror(seal(beside, facts))

    def _mirror(self, path: Path) -> None:
        if self.folder.mirror is not None:
            push(path, self.folder.mirror)

    def keep(self, done: int) -> None:
        """Save the state after `done` steps; where weights are split, behind the next steps."""
        if self.writer is not None:
            self.writer.write(self.folder.work, *collected(done, *self.parts))
        elif self.rank == 0:
            self._mirror(save_checkpoint(self.folder.work, done, *self.parts))

    def wait(self) -> None:
        """Wait until the last checkpoint is whole."""
        if self.writer is not None:
            self.writer.wait()


def _is_asked(workers: Workers, folder: TrainingFolder) -> bool:
    """Whether the driver asks the group to end, because there is room for more workers."""
    asked = workers.rank == 0 and (folder.work / REGROUP).exists()
    return bool(from_first(int(asked), workers.size, workers.device))


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
    mine = settings.mine(workers.rank, workers.size)
    for index, batch in zip(mine, batches, strict=True):
        # seeded per micro-batch, not per worker, so that dropout does not depend on the number of workers
        torch.manual_seed(micro_batch_seed(settings.seed, step, index))
        last = index == mine[-1]
        with summing(), accumulating(() if last else training_module.parallel):
            terms = training_module.micro_step(batch, step, share)
        for name, value in terms.items():
            sums[name] = sums.get(name, torch.zeros_like(value)) + share * value.detach()
    # each worker takes part in the others' passes: all have equally many
    if is_split(training_module.modules):
        for _ in range(-(-settings.micro_batches // workers.size) - len(mine)):
            with summing():
                training_module.micro_step(batches[-1], step, 0.0)
    reduce = reducer(workers.size)
    # one all-reduce for all terms; in float64, so that the order of the workers hardly matters
    totals = reduce(torch.stack([value.double() for value in sums.values()])).unbind()
    watch.begin(step)
    watch.admit({f"the loss term {name}": total for name, total in zip(sums, totals, strict=True)})
    return dict(zip(sums, totals, strict=True)) | dict(training_module.finish_step(step, reduce, watch.admit))
