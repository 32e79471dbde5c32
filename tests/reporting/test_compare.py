"""Laws of comparing: like with like only, and every difference is told."""

import subprocess

import pytest
from conftest import protocol  # noqa: F401  (replaced below; see importlib note)
