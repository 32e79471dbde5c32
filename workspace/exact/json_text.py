"""JSON from untrusted text: bounded in depth, without NaN, and a mistake is one line."""

import json
from collections.abc import Iterable
from typing import Any

from workspace.errors import UserError

MOST_NESTING = 32


def parse_json(text: str | bytes, where: str) -> Any:
    """JSON text → its value; the caller must bound the text's size.

    Args:
        text: the JSON; bytes are UTF-8.
        where: the source of the text, for the error.

    Raises:
        UserError: it is not JSON (NaN is not allowed), or nested deeper than 32 levels.
    """
    try:
        value = json.loads(text if isinstance(text, str) else text.decode(), parse_constant=_no_constant)
    except RecursionError:
        raise UserError(f"{where} is nested deeper than {MOST_NESTING} levels") from None
    except ValueError as error:
        raise UserError(f"{where} is not JSON: {' '.join(str(error).split())}") from error
    level = [value]
    for _ in range(MOST_NESTING):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, (dict, list))]
        if not level:
            return value
    raise UserError(f"{where} is nested deeper than {MOST_NESTING} levels")


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
