"""Bits per image: the raw size of its codes and positions, and the size under a model (its NLL).

An image is N codes out of K, and the choice of N of its L cells.
"""

import math
from collections.abc import Mapping, Sequence

from evaluation.protocol import Score

NATS = ("code_nats_per_image", "position_nats_per_image", "nats_per_image")


def raw_code_bits(num_kept: float, num_codes: int) -> float:
    """N log₂ K: bits for an image's codes if all are equally likely."""
    return num_kept * math.log2(num_codes)


PLACES = {False: "log₂ (L choose N)", True: "0: the same cells in every image"}
"""Whether all images keep the same cells → what their positions cost before any entropy coding."""


def raw_position_bits(num_kept: int, num_positions: int, same_places: bool = False) -> float:
    """log₂ (L choose N): bits for an image's positions if all sets of N cells are equally likely; 0 if N decides the set."""
    return 0.0 if same_places else math.log2(math.comb(num_positions, num_kept))


def stored_bits(num_kept: int, num_positions: int) -> int:
    """Bits per image in a token shard: one uint16 per code, and a bitmask of the cells in whole bytes."""
    return 16 * num_kept + 8 * math.ceil(num_positions / 8)


def bits_per_image(
    nats: Mapping[str, float],
    num_kept: Sequence[int],
    num_codes: int,
    num_positions: int,
    same_places: bool = False,
) -> dict[str, Score]:
    """NLL in bits and raw size, of codes, of positions, and of both.

    Args:
        nats: `NATS` of a validation, -log p of held-out tokens, nats per image.
        num_kept: N, one number, or those of the same images if they differ: raw and stored bits are then means over them.
        num_codes: K.
        num_positions: L.
        same_places: whether all images of N codes have them at the same positions.
    """
    code, position, both = (nats[name] / math.log(2) for name in NATS)
    each = [raw_position_bits(int(number), num_positions, same_places) for number in num_kept]
    raw = raw_code_bits(sum(num_kept) / len(num_kept), num_codes), sum(each) / len(each)
    stored = [stored_bits(int(number), num_positions) for number in num_kept]
    text = "-log₂ p of held-out tokens under the EMA weights, mean over images"
    values = {
        "code_bits_per_image": (code, text),
        "code_bits_per_image_raw": (raw[0], "N log₂ K"),
        "position_bits_per_image": (position, text),
        "position_bits_per_image_raw": (raw[1], PLACES[same_places]),
        "bits_per_image": (both, text),
        "bits_per_image_raw": (sum(raw), f"N log₂ K + {PLACES[same_places]}"),
        "bits_per_image_stored": (
            sum(stored) / len(stored),
            "16 bits per code, a bitmask over the cells",
        ),
    }
    return {name: Score(float(value), words) for name, (value, words) in values.items()}
