"""Laws of the verdicts on prompted samples."""

import pytest

from experiments.text import BOTH, verdicts


@pytest.mark.parametrize(
    ("unguided", "guided", "expected"),
    [
        (0.5, 0.7, ["held", "held"]),
        (0.7, 0.65, ["held", "not held"]),
        (0.3, 0.5, ["not held", "held"]),
        (0.5, 0.5, ["not held", "not held"]),
    ],
)
def test_guided_samples_must_reach_the_goal_and_beat_unguided_ones(
    unguided: float, guided: float, expected: list[str]
) -> None:
    arms = [{"guidance": 1.0, "values": {BOTH: unguided}}, {"guidance": 3.0, "values": {BOTH: guided}}]
    assert [one["verdict"] for one in verdicts(arms)] == expected
