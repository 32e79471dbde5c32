"""The edit that the settings of the stage sample ask for, and what to say and show of it before it is drawn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.editing.draw import kept_by, staying_of
from inference.editing.region import Edit, Region, read_edit
from inference.encode import KeyedImages
from inference.reconstruct import reconstruct
from models.base.published import StackformerFacts
from models.mqvae import MQVAE, MQVAEConfig
from settings.sample import SampleSettings
from workspace.errors import UserError


def region_of(settings: SampleSettings) -> Region:
    """The part of the picture to keep or to draw again."""
    if settings.keep is not None:
        return Region("keep", settings.keep)
    return Region("redraw", settings.redraw or "")


def edit_of(
    settings: SampleSettings, learned: StackformerFacts, mqvae: MQVAEConfig, folder: Path
) -> Edit | None:
    """The picture of which a part is drawn again, if requested.

    Args:
        settings: name it, and the part.
        learned: facts of the Stackformer in `folder`.
        mqvae: config of the model whose grid it is.
        folder: for errors.

    Raises:
        UserError: the Stackformer draws different numbers of codes, or see `read_edit`.
    """
    if settings.edit is None:
        return None
    if learned.fewest_kept is not None:
        raise UserError(
            f"{folder} draws {learned.fewest_kept} … {learned.num_kept} codes of an image; an edit needs a Stackformer of "
            "one number (tokenize.budget.kind fixed)"
        )
    return read_edit(Path(settings.edit), region_of(settings), mqvae.image_size, mqvae.grid)


def sources(settings: SampleSettings) -> Sequence[Path]:
    """The picture and the mask of an edit: they decide the result."""
    if settings.edit is None:
        return ()
    mask = region_of(settings).mask
    return [Path(settings.edit), *([] if mask is None else [mask])]


def told(edit: Edit, settings: SampleSettings, mqvae: MQVAE, num_kept: int) -> str:
    """How many codes are drawn again, and from which distribution, in a line."""
    staying = staying_of(edit, mqvae, num_kept, settings.seed)
    new = num_kept - len(staying.codes_Q)
    if staying.is_prefix:
        how = "nothing that stays is behind them: draws are from the exact conditional distribution"
    elif settings.candidates > 1:
        how = f"of {settings.candidates} candidates one is taken by the likelihood of what stays"
    else:
        how = "each given what is before it; --candidates 16 weighs what stays behind it too"
    return f"{edit.name}: {new} of {num_kept} codes are drawn again; {how}"


def before(
    edit: Edit, settings: SampleSettings, mqvae: MQVAE, num_kept: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64], int]:
    """The picture, its reconstruction, the cells that stay, and the grid's cells per side."""
    kept = kept_by(mqvae.config, num_kept)
    back = reconstruct(mqvae, KeyedImages(edit.image[None], [edit.name], settings.seed), kept=kept)
    return edit.image, back.images[0], np.flatnonzero(~edit.again_L), mqvae.config.grid
