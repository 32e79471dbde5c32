"""What the options of `sample` ask for by hand: prompts, classes, numbers of codes, an edit of a picture."""

import json
import re
from collections.abc import Mapping, Sequence

from workflow.stage import Options
from workspace.errors import UserError

HELP = {
    "prompt": "draw images of this caption, as files below OUT/png; may be repeated",
    "class": "draw images of this class, as files below OUT/png; may be repeated",
    "codes": "where the number of codes is drawn, its bounds: 24-48, or one number",
    "edit": "draw a part of this picture again, as files below OUT/png; needs --keep or --redraw",
    "keep": "what of it stays: a mask (white stays), a box X0,Y0,X1,Y1 in pixels, upper, lower, left or right",
    "redraw": "instead of --keep, what of it is drawn again, in the same forms",
    "candidates": "draw each edit this many times and take one by the likelihood of what stays (1: given what is before it)",
}
BY_HAND = 16
"""Images per prompt or class on the command line, unless `--set sample.num_images=…` is given."""


def asked_changes(asked: Mapping[str, Sequence[str]]) -> list[str]:
    """The settings that `--prompt`, `--class` and the options of an edit set."""
    changes = [f"sample.{name}={BY_HAND}" for name in ("num_images", "batch", "samples_per_shard")]
    changes += ["sample.png_files=true"]
    prompts, classes = list(asked["prompt"]) or None, list(asked["class"]) or "all"
    changes += [
        f"sample.{name}={json.dumps(asked[name][-1])}" for name in ("edit", "keep", "redraw") if asked[name]
    ]
    changes += [f"sample.codes={json.dumps(codes_asked(text))}" for text in asked["codes"]]
    changes += [f"sample.candidates={number}" for number in asked["candidates"]]
    return [*changes, f"sample.prompts={json.dumps(prompts)}", f"sample.classes={json.dumps(classes)}"]


def codes_asked(text: str) -> list[int]:
    """The bounds that `--codes` names: 24-48, 24…48, 24..48 or 24,48; one number is both.

    Raises:
        UserError: anything else.
    """
    found = re.fullmatch(r"\s*(\d+)\s*(?:(?:-|–|…|\.\.\.?|,|:)\s*(\d+)\s*)?", text)
    if found is None:
        raise UserError(f"--codes is {text}; expected the fewest and the most codes of an image, 24-48")
    return [int(found[1]), int(found[2] or found[1])]


OPTIONS = Options(HELP, asked_changes)
