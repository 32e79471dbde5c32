"""The best weights of a run so far, and when to stop because they get no better.

It is a module of its own in every checkpoint, so that a resumed run knows what an uninterrupted one knew.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from settings.training import TrainingSettings


class Best(nn.Module):
    """The best validation so far, and where `keep` is best the averaged weights that had it, on the host.

    Args:
        average: the averaged weights that are validated.
        settings: what is better, what is kept, and how long to wait.

    Attributes:
        step: steps after which the best was found; 0 as long as there is none.
        value: its number; 0 as long as there is none, because a checkpoint holds no number that is not finite.
        starts_late: whether the loaded weights are still to be looked at, because the run that wrote them did not look.
    """

    step: Tensor
    value: Tensor
    waited: Tensor

    def __init__(self, average: nn.Module, settings: TrainingSettings) -> None:
        super().__init__()
        self.settings, self.average = settings, [average]  # in a list: it does not belong to this module
        self.starts_late = False
        self.model = copy.deepcopy(average).cpu() if settings.keep == "best" else None
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("value", torch.zeros((), dtype=torch.float64))
        self.register_buffer("waited", torch.zeros((), dtype=torch.int64))

    def take_over(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a checkpoint's state; start late where an adopted run did not keep what is looked for now."""
        own = {name: state[name] for name in self.state_dict() if name in state}
        self.starts_late = len(own) < len(self.state_dict())
        if not self.starts_late:
            self.load_state_dict(own)

    @torch.no_grad()
    def look(self, done: int, numbers: Mapping[str, float]) -> None:
        """Take note of a validation after `done` steps; of equal ones the first is the best, and none that is not finite."""
        if not self.settings.is_better(numbers, float(self.value) if self.step > 0 else math.nan):
            self.waited += 1
            return
        self.starts_late = False
        self.step.fill_(done)
        self.value.fill_(numbers[self.settings.BEST_BY])
        self.waited.zero_()
        if self.model is not None:
            self.model.load_state_dict(self.average[0].state_dict())

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within the block the averaged weights are the best ones, for a validation of these."""
        assert self.model is not None
        average, now = self.average[0], copy.deepcopy(self.average[0].state_dict())
        average.load_state_dict(self.model.state_dict())
        try:
            yield
        finally:
            average.load_state_dict(now)

    @property
    def enough(self) -> bool:
        """Whether the run stops, because too many validations in a row brought no improvement."""
        return self.settings.patience is not None and int(self.waited) >= self.settings.patience

    @property
    def published(self) -> nn.Module:
        """The weights to publish."""
        return self.average[0] if self.model is None else self.model
