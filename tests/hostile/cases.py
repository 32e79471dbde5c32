"""All cases, in the order of docs/robustness.md."""

from tests.hostile import artifacts, captions, images

CASES = [*images.cases(), *captions.cases(), *artifacts.cases()]
