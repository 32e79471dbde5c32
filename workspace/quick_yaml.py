"""YAML that this project or DVC wrote, read by libyaml: ten times as fast as PyYAML's own parser, whose messages are better.

For dvc.yaml and dvc.lock, of which every stage reads some thousand lines; a file that people write goes the slow way.
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
