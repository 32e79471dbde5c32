"""TensorBoard's event files, beside the curves: the same numbers, and the pictures of each validation."""

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.curves import Curves
from workspace.errors import UserError

WRITER = "tensorboardX"
INSTALL = "pip install -e '.[tensorboard]' -c constraints.txt"


def require_writer() -> None:
    """Check that event files can be written.

    Raises:
        UserError: the package is missing.
    """
    if importlib.util.find_spec(WRITER) is None:
        raise UserError(
            f"compute.logging names tensorboard, and {WRITER} is not installed: run `{INSTALL}`, or set compute.logging to []"
        )


class Events:
    """Writes a run's numbers and pictures to event files; with no folder it writes nothing.

    A resumed run adds a file that makes TensorBoard ignore later steps of the earlier files. Event files that are
    asked for in the middle of a run begin with its curves so far.

    Args:
        folder: of the event files, or None.
        start: steps that are done.
        train: curves of the training.
        validation: and of the validations.
    """

    def __init__(self, folder: Path | None, start: int, train: Curves, validation: Curves) -> None:
        self._writer: Any = None
        if folder is None:
            return
        from tensorboardX import SummaryWriter

        first = not folder.is_dir() or not any(folder.iterdir())
        # files are named by the second, and read in the order of their names: without the step, a run that is resumed within
        # a second would overwrite its own file
        self._writer = SummaryWriter(
            str(folder), purge_step=None if first else start + 1, filename_suffix=f".{start:010d}"
        )
        for split, curves in (("train", train), ("validation", validation)) if first else ():
            for step, terms in curves.past():
                self.add(step, split, terms)

    def add(self, step: int, split: str, terms: dict[str, float]) -> None:
        """Log the terms of a step, as `split/term`."""
        if self._writer is not None:
            for name, value in terms.items():
                if not math.isnan(value):  # a term that this step does not have
                    self._writer.add_scalar(f"{split}/{name}", value, step)

    def picture(self, step: int, path: Path) -> None:
        """Log a picture under its folder's name, if there is one."""
        if self._writer is not None and path.is_file():
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._writer.add_image(path.parent.name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is buffered."""
        if self._writer is not None:
            self._writer.close()
