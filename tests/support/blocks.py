"""The blocks of code in the documentation: which are run, and which say why they are not.

Blocks of `python`, `console` and `sh` are run by the `conftest.py` beside this repository's README. One that cannot be
run here has a line above it that says why:

    <!-- not run: it needs a cluster -->

Blocks of `yaml` are Kubernetes objects, and checked as such by `tests/deploy`, or a line above says what they are:

    <!-- yaml: values of consul -->
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt
from sybil import Document, Region
from sybil.typing import Parser

RUN = frozenset({"python", "console", "sh"})
CHECKED = frozenset({"yaml"})
NOT_CODE = frozenset({"dockerfile", "go", "hcl", "ini", "json", "text", "toml"})
"""Neither Python nor for a shell. A directive of the documentation's builder, in braces, is neither, too."""
SHORTEST_REASON = 10
_MARK = re.compile(r"<!-- (?P<kind>not run|yaml): (?P<text>[^\n]*?) -->\s*")
_NOT_RUN_ABOVE = re.compile(r"^[ \t]*<!-- not run: [^\n]*? -->\s*\Z", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        line: of its opening fence, from 1.
        not_run: why it is not run, if a line above says so.
        yaml: what kind of YAML it is, if a line above says so.
    """

    language: str
    source: str
    line: int
    not_run: str | None = None
    yaml: str | None = None


def blocks_of(page: str) -> list[Block]:
    """All fenced blocks of a page, as Markdown's own rules find them."""
    tokens = MarkdownIt("commonmark").parse(page)
    found = []
    for number, token in enumerate(tokens):
        if token.type == "fence":
            mark = _MARK.fullmatch(tokens[number - 1].content) if number else None
            told = {mark["kind"].replace(" ", "_"): mark["text"]} if mark else {}
            language = token.info.split()[0] if token.info.split() else ""
            found.append(Block(language, token.content, token.map[0] + 1, **told))
    return found


def complaints(page: str, run: Iterable[int]) -> Iterator[str]:
    """What is wrong with a page's blocks, as `line: what`.

    Args:
        page: its text.
        run: the lines of the blocks that are run.
    """
    lines, blocks = set(run), blocks_of(page)
    for block in blocks:
        trouble = _trouble(block, block.line in lines)
        if trouble:
            yield f"{block.line}: {trouble}"
    marks = sum(1 for block in blocks if block.not_run is not None or block.yaml is not None)
    if marks != len(_MARK.findall(page)):
        yield "1: a mark does not stand right above a block"


def _trouble(block: Block, is_run: bool) -> str | None:
    if block.not_run is not None:
        return _trouble_of_marked(block.not_run, is_run)
    if block.language in RUN:
        return None if is_run else f"a block of {block.language} is neither run nor marked"
    if block.yaml is not None and block.language not in CHECKED:
        return f"a block of {block.language} is marked as YAML"
    known = block.language in CHECKED | NOT_CODE or block.language.startswith("{")
    return None if known else f"nobody knows what to do with a block of {block.language or 'no language'}"


def _trouble_of_marked(reason: str, is_run: bool) -> str | None:
    if is_run:
        return "a block that is marked as not run is run"
    return None if len(reason) >= SHORTEST_REASON else f"{reason!r} is no reason"


class UnlessMarked:
    """A parser that leaves out the blocks which say that they are not run."""

    def __init__(self, parser: Parser) -> None:
        self.parser = parser

    def __call__(self, document: Document) -> Iterator[Region]:
        for region in self.parser(document):
            if not _NOT_RUN_ABOVE.search(document.text[: region.start]):
                yield region
