"""Each block of Python and of shell in the documentation is run, or says why it is not."""

from __future__ import annotations

import pytest
from sybil import Sybil
from sybil.document import Document
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from tests.support.blocks import Block, UnlessMarked, blocks_of, complaints
from tests.support.console import failure
from tests.support.pages import PAGES, ROOT, load_root_conftest
from tests.support.tutorial import steps_of

RUN_HERE = {"README.md"}
"""Beside those below docs; pytest is told the same in pyproject.toml."""


@pytest.fixture(scope="module")
def parsers():
    return load_root_conftest().PARSERS


def lines_run(page, text, parsers):
    """The lines of the blocks that pytest runs on a page, found by the parsers that it uses.

    The tutorial's are done as a whole, by tests/site/test_tutorial.py.
    """
    if page == "docs/tutorial.md":
        return {step.line for step in steps_of(text)}
    if not (page in RUN_HERE or page.startswith("docs/")):
        return set()
    document = Document.parse(str(ROOT / page), *parsers)
    return {example.line for example in document.examples()}


@pytest.mark.parametrize("page", PAGES)
def test_each_block_is_run_or_says_why_not(page, parsers):
    text = (ROOT / page).read_text()
    assert list(complaints(text, lines_run(page, text, parsers))) == []


def test_most_blocks_are_run(parsers):
    blocks = [block for page in PAGES for block in blocks_of((ROOT / page).read_text())]
    assert len(blocks) > 150
    assert sum(block.language == "python" and block.not_run is None for block in blocks) > 120


def test_every_page_is_there():
    assert {"README.md", "CHANGELOG.md", "docs/tutorial.md", "docs/deploy/index.md"} <= set(PAGES)


FENCE = "```"


@pytest.mark.parametrize(
    ("page", "run", "complaint"),
    [
        (f"{FENCE}python\n1\n{FENCE}\n", [], "1: a block of python is neither run nor marked"),
        (f"text\n\n{FENCE}sh\ntrue\n{FENCE}\n", [1], "3: a block of sh is neither run nor marked"),
        (f"{FENCE}bash\ntrue\n{FENCE}\n", [1], "1: nobody knows what to do with a block of bash"),
        (f"{FENCE}\ntrue\n{FENCE}\n", [], "1: nobody knows what to do with a block of no language"),
        (f"- item\n\n  {FENCE}py\n  1\n  {FENCE}\n", [], "3: nobody knows what to do with a block of py"),
        (f"<!-- not run: later -->\n{FENCE}sh\ntrue\n{FENCE}\n", [], "2: 'later' is no reason"),
        (
            f"<!-- not run: it needs a cluster -->\n{FENCE}sh\n{FENCE}\n",
            [2],
            "2: a block that is marked as not run is run",
        ),
        (
            f"<!-- not run: it needs a cluster -->\n\ntext\n\n{FENCE}text\n{FENCE}\n",
            [],
            "1: a mark does not stand right",
        ),
        (f"<!-- yaml: values of consul -->\n{FENCE}json\n{FENCE}\n", [], "2: a block of json is marked as YAML"),
    ],
)
def test_what_is_neither_is_found(page, run, complaint):
    (found,) = complaints(page, run)
    assert found.startswith(complaint)


@pytest.mark.parametrize(
    ("page", "run"),
    [
        (f"{FENCE}python\n1\n{FENCE}\n", [1]),
        (f"<!-- not run: it needs a cluster -->\n\n{FENCE}sh\ntrue\n{FENCE}\n", []),
        (f"<!-- yaml: values of consul -->\n{FENCE}yaml\na: 1\n{FENCE}\n", []),
        (f"{FENCE}yaml\na: 1\n{FENCE}\n\n{FENCE}{{toctree}}\n{FENCE}\n\n{FENCE}text\n{FENCE}\n", []),
    ],
)
def test_what_is_one_of_both_is_not_complained_about(page, run):
    assert list(complaints(page, run)) == []


def test_a_mark_is_read():
    page = f"<!-- not run: it needs a cluster -->\n{FENCE}sh\nhelm version\n{FENCE}\n"
    assert blocks_of(page) == [Block("sh", "helm version\n", 2, not_run="it needs a cluster")]


@pytest.mark.parametrize("gap", ["", "\n"])
def test_a_marked_block_is_not_run_and_its_neighbours_are(tmp_path, gap):
    page = tmp_path / "page.md"
    page.write_text(
        f"{FENCE}sh\ntrue\n{FENCE}\n\n<!-- not run: it needs a cluster -->\n{gap}{FENCE}sh\nfalse\n{FENCE}\n\n"
        f"{FENCE}python\nassert True\n{FENCE}\n"
    )
    parsers = [
        UnlessMarked(PythonCodeBlockParser()),
        UnlessMarked(CodeBlockParser("sh", lambda example: failure(example.parsed))),
        SkipParser(),
    ]
    document = Sybil(parsers=parsers, path=str(tmp_path), patterns=["*.md"]).parse(page)
    examples = list(document.examples())
    assert [example.parsed for example in examples] == ["true\n", "assert True\n"]
    for example in examples:
        example.evaluate()


def test_a_script_that_succeeds():
    assert failure("for word in a b; do echo $word; done\n") is None


@pytest.mark.parametrize("script", ["false\ntrue\n", "false | true\n", "echo $nobody\n", "exit 0\n", "if\n"])
def test_a_script_that_does_not(script):
    assert failure(script).startswith("it failed:\n")
