"""Generated images with their requested labels."""

from collections.abc import Sequence

from evaluation.features.labelled import LabelledImages, as_batch
from evaluation.features.labels import Heads, expected_of_prompt, expected_values
from shards.samples import Sample


def label_samples(samples: Sequence[Sample], heads: Heads, classes: Sequence[str] | None) -> LabelledImages:
    """Generated images with their requested labels, from the class or the words of the prompt."""
    records = [sample.record for sample in samples]
    expected = [
        expected_values(heads, classes, record.cls, None)
        if record.prompt is None
        else expected_of_prompt(heads, record.prompt)
        for record in records
    ]
    return as_batch([sample.image for sample in samples], [record.cls for record in records], expected, heads)
