"""Whether the links of the documentation lead somewhere: files are there, and headings in them.

    python tools/links.py [PAGE...]     by default every page of this repository

Addresses elsewhere are not asked, only read: a check that needs the internet fails when the internet does.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

__all__ = ["anchors", "broken", "pages"]

ROOT = Path(__file__).resolve().parent.parent
_ELSEWHERE = {".venv", ".git", ".ci", "node_modules", ".pytest_cache", "dist", "build"}
_LABEL = re.compile(r"^\(([\w-]+)\)=$", re.MULTILINE)
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}")
_NOT_IN_AN_ADDRESS = re.compile(r"[\s<>\"{}|\\^`]|[.,;:!?]\Z")


def pages(root: Path = ROOT) -> list[Path]:
    """Every page of a repository."""
    return sorted(page for page in root.rglob("*.md") if not _ELSEWHERE & set(page.relative_to(root).parts[:-1]))


@cache
def anchors(page: Path) -> frozenset[str]:
    """What can stand behind a `#` of a link to this page: headings, as GitHub and MyST write them, and labels."""
    text = page.read_text()
    tokens = MarkdownIt("commonmark").parse(text)
    found: Counter[str] = Counter()
    named = set(_LABEL.findall(text))
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            slug = _slug(inline)
            named.add(f"{slug}-{found[slug]}" if found[slug] else slug)
            found[slug] += 1
    return frozenset(named)


def broken(page: Path, root: Path = ROOT) -> Iterator[str]:
    """What is wrong with a page's links, as `line: what`."""
    for line, link in _links(page.read_text()):
        trouble = _trouble(link, page, root)
        if trouble:
            yield f"{line}: {link}: {trouble}"


def _slug(heading: Token) -> str:
    text = "".join(child.content for child in heading.children or [] if child.type in {"text", "code_inline"})
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def _links(text: str) -> Iterator[tuple[int, str]]:
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        line = (token.map or [0])[0] + 1
        for child in token.children or []:
            link = child.attrGet("href") if child.type == "link_open" else child.attrGet("src")
            if isinstance(link, str) and child.type in {"link_open", "image"}:
                yield line, link


def _trouble(link: str, page: Path, root: Path) -> str | None:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return _trouble_elsewhere(link)
    target = page if not parts.path else (page.parent / unquote(parts.path)).resolve()
    if not target.is_relative_to(root):
        return "it leads out of the repository"
    if not target.exists():
        return "there is no such file"
    if parts.fragment and target.suffix == ".md" and unquote(parts.fragment) not in anchors(target):
        return "the page has no such heading"
    return None


def _trouble_elsewhere(link: str) -> str | None:
    parts = urlsplit(link)
    if parts.scheme == "http" and parts.hostname == "127.0.0.1":
        return None  # what a reader has started himself
    if parts.scheme != "https":
        return "not https"
    if parts.username or not _HOST.fullmatch(parts.hostname or ""):
        return "no name of a host"
    return "no address" if _NOT_IN_AN_ADDRESS.search(unquote(link)) else None


def main(*names: str) -> int:
    """Tells what is broken; 1 if anything is."""
    found = 0
    for page in [Path(name).resolve() for name in names] or pages():
        for trouble in broken(page):
            print(f"{page.relative_to(ROOT)}:{trouble}")
            found = 1
    return found


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
