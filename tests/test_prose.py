"""The product's prose is plain English: words that read like a translation do not come back.

Checked are comments, docstrings and strings of Python, comments of YAML, JavaScript and the Makefile, templates and pages;
code is not.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache

import pytest

from tests.committed import ROOT, working_names

COUNTED = (
    "images?|codes?|bytes|bits|threads?|features|shards?|lines?|micro-batches|ResBlocks|pixels|captions?|cells|steps|rows?|values?|"
    "numbers?|tasks|one|blocks?|levels?|layers?|workers?|seconds|entry|channels|weights|file"
)
PER = (
    "image|second|worker|step|side|level|batch|caption|code|row|line|cell|stage|shard|block|class|epoch|tar|pass|forward|run|name|task|"
    "sample|arm|split|minute|pixel|layer|micro-batch|reason|page|process|GPU|core|training|kind|seed"
)
BANNED = {
    "stands": r"\b(stands?|stood)\b(?! (for|in for|out)\b)(?!-)",
    "told": r"\b(told|retold)\b(?!:)",
    "goes on": r"\b(goes|go|gone|went|going) on\b",
    "anew": r"\banew\b",
    "is no": r"(?<!there )(?<!\bhere )\b(is|are|was|were) no\b(?! (longer|more|less|fewer|larger|smaller|farther)\b)",
    "what was": r"\bwhat (was|were)\b",
    "reckoned": r"\breckon(s|ed|ing)?\b",
    "lies": r"\b(lies|lain)\b|\bthey lie\b",
    "mend": r"\bmend(s|ed|ing)?\b",
    "so many": r"\bso many\b(?! that\b)",
    "where there are none": r"\bwhere there (is|are|was|were) (none|no|any|some|several)\b",
    "how many there are": r"\b(how|as) many there are\b",
    "whoever": r"\bwhoever\b",
    "of before": r"\bof before\b",
    "came about": r"\b(come|comes|came) about\b",
    "what became of": r"\bwhat (became|becomes|came|comes) of\b",
    "is none": r"\b(it|that|which|what|they) (is|are) none\b",
    "be had": r"\bbe had\b",
    "is said": r"\b(is|are) said\b(?! to\b)",
    "has not": r"\b(has|have) not[,.;)]",
    "a for per": rf"\b({COUNTED}) an? ({PER})\b(?=[.,;:)(]|$| (and|or|over|at|from|in|with|on|by)\b)",
}
"""What is not written → how it is found."""
NOT_PROSE = (
    "tests/",
    "docs/results",
    "docs/log.md",
    "docs/decisions/",
    "docs/robustness.md",
    "metrics/",
    "benchmarks/results",
)
"""Tests, what programs wrote, and what was said at its time."""
SPAN = re.compile(r"```.*?```|`[^`]*`|\{\{.*?\}\}|\{%.*?%\}|\]\([^)]*\)", re.DOTALL)


def texts() -> Iterator[tuple[str, str]]:
    """File and text of every piece of prose."""
    for name in working_names():
        if name.startswith(NOT_PROSE) or not (ROOT / name).is_file():
            continue
        if name.endswith((".py", ".md", ".yaml", ".j2", ".js")) or name == "Makefile":
            text = (ROOT / name).read_text(encoding="utf-8")
            yield from ((name, piece) for piece in pieces(name, text))


@cache
def plain_texts() -> tuple[tuple[str, str], ...]:
    """The same without code in the text, on one line each; once for all words, since parsing takes more than a second."""
    return tuple((name, " ".join(SPAN.sub("…", text).split())) for name, text in texts())


def pieces(name: str, text: str) -> Iterator[str]:
    if name.endswith(".py"):
        yield from of_python(text)
    elif name.endswith((".md", ".j2")):
        yield text
    elif name.endswith(".js"):
        yield from re.findall(r"/\*.*?\*/|//[^\n]*", text, re.DOTALL)
    else:
        yield from re.findall(r"#[^\n]*|desc: [^\n]*", text)


def of_python(text: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    inner: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value if " " in node.value else ""


@pytest.mark.parametrize("word", BANNED)
def test_no_prose_has_it(word: str) -> None:
    pattern = re.compile(BANNED[word], re.IGNORECASE)
    found = []
    for name, plain in plain_texts():
        found += [
            f"{name}: {plain[max(0, match.start() - 60) : match.end() + 40]}"
            for match in pattern.finditer(plain)
        ]
    assert found == []


def test_a_docstring_begins_with_its_subject() -> None:
    """`Of one of some calls`, `As many as …`: the noun is missing, and its reader must guess it."""
    missing = re.compile(r"(Of|As many|So many|Beside) ")
    assert missing.match("Of the published file.")
    found = []
    for name in working_names():
        if not name.endswith(".py") or name.startswith(NOT_PROSE):
            continue
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                text = node.value.value
                if isinstance(text, str) and missing.match(text):
                    found.append(f"{name}: {text.splitlines()[0]}")
    assert found == []


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("stands", "its SHA-256 stands in the manifest"), ("told", "a file is skipped and told"),
        ("goes on", "a run that goes on"),
        ("anew", "made anew"), ("is no", "it is no HOST:PORT"), ("what was", "what was made"), ("reckoned", "memory is reckoned"),
        ("lies", "where it lies"), ("mend", "3 more to mend"), ("a for per", "torch threads a worker"),
        ("so many", "lowered to so many images"), ("where there are none", "empty where there are none"),
        ("how many there are", "how many there are of it"), ("whoever", "for whoever reads it"),
        ("of before", "params files of before"),
        ("came about", "how the numbers came about"), ("what became of", "what became of each stage"),
        ("is none", "a split that is none"),
        ("be had", "a port that cannot be had"), ("is said", "it is said in a line"), ("has not", "a key that the file has not."),
    ],
)  # fmt: skip
def test_each_is_found_where_it_is_and_not_in_code(word: str, text: str) -> None:
    pattern = re.compile(BANNED[word], re.IGNORECASE)
    assert pattern.search(" ".join(pieces("x.py", f'"""{text}"""\n')))
    assert pattern.search(" ".join(pieces("x.py", f"x = 1  # {text}\n")))
    assert not pattern.search(
        "there is no room for one image, which is no longer read; the row stands for a class"
    )
    told = "told = what_was(stands, reckon=1)\n"
    assert not pattern.search(" ".join(pieces("x.py", told)))
