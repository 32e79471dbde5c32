"""Reads YAML written by people: bounded, numbers as DVC reads them, each key once (`quick_yaml` reads what programs wrote)."""

import copy
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import yaml

from workspace.errors import UserError

MOST_VALUES, MOST_NESTING = 100_000, 32
"""Bounds for a file: values, nesting levels."""


class _Loader(yaml.SafeLoader):
    """Numbers as in YAML 1.2 and DVC, and each key once.

    `dvc exp run -S …=1e-5` writes 1e-05, which PyYAML alone reads as text; it reads 010 as eight and 12:30 as 750. Of equal keys
    it takes the last, so that an edit of the first would do nothing.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping; UserError if it has a key twice."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in lines:
                    where = f"in lines {lines[key.value]} and {line}"
                    raise UserError(f"{key.value} is there twice, {where}: remove one")
                lines[key.value] = line
        return node


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int | str:
    text = node.value.replace("_", "")
    if ":" in text:
        return str(node.value)
    return int(text) if DECIMAL.fullmatch(text) else int(loader.construct_yaml_int(node))


DECIMAL = re.compile("[-+]?[0-9]+")
_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile("[-+]?[0-9]+$"), [*"-+0123456789"])

_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    [*"-+.0123456789"],
)


@lru_cache(
    maxsize=64
)  # a stage reads its file once per section (400 lines: 0.03 s), an arm 50 overrides per stage
def _parsed(text: bytes) -> Any:
    return _Loader(text).get_single_data()


def careful_yaml(text: bytes, where: str) -> Any:
    """YAML → values, with bounded size and no cycles (aliases can expand beyond any memory).

    Raises:
        UserError: not YAML, or too large.
    """
    try:
        tree = copy.deepcopy(_parsed(text))
    except RecursionError:
        raise UserError(f"{where} is nested too deeply") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{where} is not YAML: {' '.join(str(error).split())[:300]}") from error
    level, count = [tree], 0
    for _ in range(MOST_NESTING):
        count += len(level)
        level = [inner for outer in level for inner in _inner(outer)] if count <= MOST_VALUES else level
        if not level:
            return tree
    raise UserError(
        f"{where} holds more than {MOST_VALUES:,} values, or nests them deeper than {MOST_NESTING}"
    )


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, set, tuple)) else ()
