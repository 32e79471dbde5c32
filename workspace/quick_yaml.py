"""Reads YAML written by this project or DVC with libyaml, ten times as fast as PyYAML's own parser.

For dvc.yaml and dvc.lock, of which every stage reads thousands of lines. Files written by people use the slow parser, because
its error messages are better.
"""

from typing import Any

import yaml

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML may have been built without libyaml."""


def quick_yaml(text: str | bytes) -> Any:
    """The values of a YAML file.

    Raises:
        yaml.YAMLError: it is not YAML.
    """
    loader = LOADER(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
