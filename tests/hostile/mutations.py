"""Random changes to bytes and JSON values, for the fuzzer."""

import random
from typing import Any

NUMBERS = (0, -1, 1, 2**16, 2**31, 2**63, -(2**63), 10**30, 1.5, float("1e308"))


STRINGS = (
    "",
    "\0",
    "../..",
    "/etc/passwd",
    "a" * 5000,
    "\u202e",
    "<script>",
    "{}",
    "nan",
    "\ud83d",
    "é" * 300,
)


BYTES = (
    b"\0",
    b"\xff",
    b"\n",
    b"[",
    b"{",
    b'"',
    b"9" * 40,
    b"\xed\xa0\x80",
    b"-",
    b"e999",
    b"\\u",
    b"&a [*a]",
    b"!!python/name:os.system",
)


def mutated(data: bytes, generator: random.Random) -> bytes:
    """Bytes with some of them changed, cut, doubled, swapped or put in."""
    made = bytearray(data)
    for _ in range(1 + int(generator.expovariate(0.7))):
        place = generator.randrange(len(made) + 1)
        end = min(len(made), place + 1 + int(generator.expovariate(0.05)))
        kind = generator.randrange(7)
        if kind == 0 and made:
            made[place - 1] ^= 1 << generator.randrange(8)
        elif kind == 1:
            del made[place:end]
        elif kind == 2:
            made[place:place] = generator.choice(BYTES)
        elif kind == 3:
            made[place:end] = generator.randbytes(end - place)
        elif kind == 4:
            made[place:place] = made[place:end]
        elif kind == 5:
            del made[place:]
        else:
            made[place:end] = generator.choice(BYTES)
    return bytes(made)


def changed(value: Any, generator: random.Random) -> Any:
    """A JSON value with one value in it exchanged, removed, nested or added."""
    if isinstance(value, dict) and value and generator.random() < 0.9:
        name = generator.choice(sorted(value))
        if generator.random() < 0.1:
            return {key: inner for key, inner in value.items() if key != name}
        if generator.random() < 0.1:
            return {**value, generator.choice(STRINGS): value[name]}
        return {**value, name: changed(value[name], generator)}
    if isinstance(value, list) and value and generator.random() < 0.8:
        place = generator.randrange(len(value))
        return [*value[:place], changed(value[place], generator), *value[place + 1 :]]
    other = [
        generator.choice(NUMBERS),
        generator.choice(STRINGS),
        None,
        True,
        [],
        {},
        [value] * generator.randrange(4),
        {"a": value},
    ]
    return generator.choice(other)
