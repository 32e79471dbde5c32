"""What rank 0 keeps of a training on its way: the bar, the curves, event files, validations."""

import json
import math
import time
from typing import TYPE_CHECKING, Any

from settings.training import TrainingSettings
from training.curves import Curves, LiveView
from training.events import Events
from training.loop.best import Best
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
            numbers = training_module.validate(done)
            self.validation.add(done, numbers)
            self.best.look(done, self.validation.past()[-1][1])
            self.live.add(done, "validation", numbers)
            self.events.add(done, "validation", numbers)
            self.events.picture(done, self.pictures / f"step-{done:07d}.png")
            self._clock, self._counted = time.monotonic(), done

    def close(self) -> None:
        """Close the bar, DVCLive and the event files."""
        self.bar.__exit__(None, None, None)
        self.live.close()
        self.events.close()
