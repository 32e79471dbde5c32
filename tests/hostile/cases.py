"""All cases, in the order of docs/robustness.md."""

from tests.hostile import accidents, artifacts, captions, doors, images

CASES = [*images.cases(), *captions.cases(), *artifacts.cases(), *doors.cases(), *accidents.cases()]
