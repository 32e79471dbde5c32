"""All cases, in the order of docs/robustness.md."""

from tests.hostile import images

CASES = images.cases()
