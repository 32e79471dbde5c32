"""What rank 0 keeps of a training on its way: the bar, the curves, event files, validations."""

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from settings.training import TrainingSettings
from training.curves import Curves, LiveView
from training.events import Events
from training.loop.best import Best
from training.loop.published import write_published
from workspace.errors import UserError
from workspace.progress import Progress

if TYPE_CHECKING:
    from training.loop.train import TrainingFolder

ATTEMPTS = "attempts.jsonl"
"""File with one line per start of a training: the steps already done, and the number of workers."""


class Recorder:
    """Rank 0's bookkeeping: bar, curves, validation."""

    def __init__(
        self, folder: "TrainingFolder", settings: TrainingSettings, start: int, workers: int, best: Best
    ) -> None:
        self.settings, self.best = settings, best
        with (folder.work / ATTEMPTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"steps_done": start, "workers": workers}) + "\n")
        self.train = Curves(folder.metrics / "curves.tsv", start)
        self.validation = Curves(folder.metrics / "validation.tsv", start)
        self.live = LiveView(folder.metrics / "live", self.train, self.validation)
        self.events = Events(folder.events, start, self.train, self.validation)
        self.pictures = folder.metrics / "pictures"
        self.bar = Progress("training", settings.steps, "steps", folder.progress_file, start)
        self.bar.__enter__()
        self._clock, self._counted = time.monotonic(), start

    def after_step(
        self,
        done: int,
        terms: dict[str, float] | None,
        training_module: Any,
        skipped: int,
    ) -> None:
        """Update the bar; log and validate where due (`terms` is None where not)."""
        last = done == self.settings.steps
        shown = {name: value for name, value in (terms or {}).items() if name in ("loss", "code", "position")}
        shown |= {"skipped": float(skipped)} if skipped else {}
        self.bar.update(done, **shown, images_per_second=self.bar.rate * self.settings.global_batch)
        if terms is None:
            return
        if last or done % self.settings.log_every == 0:
            now = time.monotonic()
            rate = (done - self._counted) * self.settings.global_batch / max(now - self._clock, 1e-9)
            row = terms | {"samples_per_second": rate}
            if all(math.isfinite(value) for value in row.values()):  # not of a step that was skipped
                self.train.add(done, row)
                self.live.add(done, "train", row)
                self.events.add(done, "train", row)
            self._clock, self._counted = now, done
        if self.settings.validates(done):
            self.best.look(done, self._validated(done, training_module))
            self._clock, self._counted = time.monotonic(), done

    def _validated(self, done: int, training_module: Any) -> dict[str, float]:
        """The validation after `done` steps, as the curves have it from now on."""
        numbers = training_module.validate(done)
        self.validation.add(done, numbers)
        self.live.add(done, "validation", numbers)
        self.events.add(done, "validation", numbers)
        self.events.picture(done, self.pictures / f"step-{done:07d}.png")
        return dict(self.validation.past())[done]

    def lacks(self, start: int) -> bool:
        """Whether loaded weights that may be published, or must be beaten, have no validation in the curves.

        So it is on another machine than the checkpoint's, and in an adopted run that had not looked for its best.
        """
        ends = start >= self.settings.steps or self.best.enough
        seen = dict(self.validation.past()).get(start, {self.settings.BEST_BY: math.nan})
        # one that was not finite may be now, as with another precision
        return (ends or self.best.starts_late) and not math.isfinite(seen[self.settings.BEST_BY])

    def catch_up(self, start: int, training_module: Any) -> None:
        """Look at the loaded weights, which an adopted run takes for its best so far; validate them where `lacks` says so."""
        past = dict(self.validation.past())
        if self.best.model is not None and int(self.best.step) not in {0, *past}:
            with self.best.shown():
                self._validated(int(self.best.step), training_module)
        numbers = self._validated(start, training_module) if self.lacks(start) else past.get(start)
        new = self.best.starts_late or not self.best.step
        if new and numbers is not None and math.isfinite(numbers[self.settings.BEST_BY]):
            self.best.look(start, numbers)

    def publish(self, folder: Path) -> None:
        """Note which validation the published weights had.

        Raises:
            UserError: it was not finite.
        """
        past = dict(self.validation.past())
        steps = max(past) if self.best.model is None else int(self.best.step) or max(past)
        by, section = self.settings.BEST_BY, self.settings.SECTION
        if not math.isfinite(past[steps][by]):
            raise UserError(
                f"the validation after {steps:,} steps has {by} {past[steps][by]:g}, so these weights are not published; set "
                f"{section}.precision to bf16 or fp32 where it is fp16, or {section}.keep to best, and continue from its "
                f"checkpoints by `python -m workspace.runs adopt {folder.parent.name}`"
            )
        write_published(
            folder, steps, {name: value for name, value in past[steps].items() if math.isfinite(value)}
        )

    def close(self) -> None:
        """Close the bar, DVCLive and the event files."""
        self.bar.__exit__(None, None, None)
        self.live.close()
        self.events.close()
