"""The splits of image shards and of token sets."""

from workspace.errors import UserError

SPLITS = ("train", "val")


def known_split(split: str) -> str:
    """The same name; UserError if no set has such a split."""
    if split not in SPLITS:
        raise UserError(f"split {split!r}: a set has {' and '.join(SPLITS)}")
    return split
