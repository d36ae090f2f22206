"""Links that lead nowhere are found."""

from __future__ import annotations

import pytest

from tools.links import anchors, broken, pages

HEADINGS = """# One thing

## `two` things, and more

## Same

## Same

(label)=
## Errors

```text
# no heading
```
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text(HEADINGS)
    (tmp_path / "picture.svg").write_text("<svg/>")
    return tmp_path


def troubles(folder, text):
    page = folder / "page.md"
    page.write_text(text)
    return [trouble.split(": ", 1)[0] + ": " + trouble.rsplit(": ", 1)[1] for trouble in broken(page, folder)]


def test_headings_and_labels_can_be_linked_to(folder):
    found = anchors(folder / "docs" / "other.md")
    assert found == {"one-thing", "two-things-and-more", "same", "same-1", "errors", "label"}


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("[x](nothing.md)", "1: there is no such file"),
        ("text\n\n- [x](docs/other.md#three)", "3: the page has no such heading"),
        ("[x](#nothing)", "1: the page has no such heading"),
        ("![x](nothing.svg)", "1: there is no such file"),
        ("[x](../secret.md)", "1: it leads out of the repository"),
        ("| a |\n|---|\n| [x](nothing.md) |", "3: there is no such file"),
        ("[x](http://example.org)", "1: not https"),
        ("[x](ftp://example.org)", "1: not https"),
        ("[x](https://example)", "1: no name of a host"),
        ("[x](https://user:secret@example.org)", "1: no name of a host"),
        ("<https://example.org/a.>", "1: no address"),
        ("[x](<https://example.org/a b>)", "1: no address"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(folder, text, trouble):
    (found,) = troubles(folder, text)
    assert found == trouble


@pytest.mark.parametrize(
    "text",
    [
        "# Here\n\n[x](#here) [y](docs/other.md) [z](docs/other.md#same-1) [w](docs/other.md#label)",
        "![x](picture.svg) [y](docs)",
        "[x](https://example.org/a?b=c#d), [y](http://127.0.0.1:8500)",
        "`[x](nothing.md)`\n\n```text\n[x](nothing.md)\n```",
    ],
)
def test_a_link_that_leads_somewhere_is_not(folder, text):
    assert troubles(folder, text) == []


def test_pages_are_found_and_those_of_others_are_not(folder):
    (folder / ".venv").mkdir()
    (folder / ".venv" / "theirs.md").write_text("[x](nothing.md)")
    assert pages(folder) == [folder / "docs" / "other.md"]
