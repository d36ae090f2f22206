"""What the README, the glossary and the list of changes promise."""

from __future__ import annotations

import re

import consul_access
from tests.support.blocks import blocks_of
from tests.support.pages import PAGES, ROOT
from tools.links import anchors

SCREEN = 24
"""Lines of the smallest terminal that anybody still has."""
WORDS = """service instance registration node agent catalog-entry health-entry check status address registry resolver
balancer keeper watch snapshot change lease ttl heartbeat index revision call reply face"""


def text(page):
    return (ROOT / page).read_text()


def test_the_first_command_of_the_readme_is_on_the_first_screen_and_five_lines_of_python_as_well():
    first, second, *_ = blocks_of(text("README.md"))
    assert (first.language, first.source) == ("sh", "make demo\n")
    assert second.language == "python"
    assert len(second.source.strip().splitlines()) <= 6
    assert second.line + second.source.count("\n") + 1 <= SCREEN


def test_every_word_of_the_project_is_in_the_glossary():
    assert anchors(ROOT / "docs" / "glossary.md") == {"glossary", *WORDS.split()}


def test_pages_link_to_the_glossary():
    linking = [page for page in PAGES if "glossary.md" in text(page) and page != "docs/glossary.md"]
    assert {"docs/index.md", "docs/tutorial.md", "docs/explanation/architecture.md"} <= set(linking)


def test_every_page_is_in_the_navigation_once():
    trees = re.findall(r"```\{toctree\}\n(.*?)```", "".join(text(page) for page in PAGES), re.DOTALL)
    entries = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    assert len(entries) == len(set(entries))
    in_docs = {page.removeprefix("docs/").removesuffix(".md") for page in PAGES if page.startswith("docs/")}
    folders = {entry.rpartition("/")[0] for entry in in_docs}
    named = {entry for entry in in_docs if entry in entries or entry.rpartition("/")[2] in entries}
    assert in_docs - named == {"index"}
    assert {"deploy", "etcd", "frameworks", "migrate", "explanation", "reference"} <= folders


def test_the_newest_changes_are_those_of_this_version():
    versions = re.findall(r"^## \[(.+?)\]", text("CHANGELOG.md"), re.MULTILINE)
    assert versions[0] == consul_access.__version__
    assert len(versions) == len(set(versions))


def test_the_version_is_written_in_one_place():
    version = re.escape(consul_access.__version__)
    files = [ROOT / "pyproject.toml", *(ROOT / "consul_access").rglob("*.py")]
    naming = [
        str(file.relative_to(ROOT)) for file in files if re.search(rf'version\w*\s*=\s*"{version}"', file.read_text())
    ]
    assert naming == ["consul_access/_version.py"]


def test_changes_are_told_to_users_in_groups():
    newest = text("CHANGELOG.md").split("\n## [")[1]
    groups = re.findall(r"^### (.+)$", newest, re.MULTILINE)
    assert len(groups) >= 5
    assert len(groups) == len(set(groups))
    for group in re.split(r"^### ", newest, flags=re.MULTILINE)[1:]:
        assert re.search(r"^- ", group, re.MULTILINE), group
