"""The runner of the documentation's shell sessions finds what is wrong with them."""

from __future__ import annotations

import pytest

from tests.support.console import differences


@pytest.mark.parametrize(
    "session",
    [
        "$ echo a; echo b >&2\na\nb\n",
        "$ true\n$ echo one two three\none ... three\n",
        "$ for word in a b; do\n> echo $word; done\na\nb\n",
        "$ sleep 60 &\n$ echo on\non\n",
    ],
)
def test_a_session_as_it_happens(session):
    assert differences(session) is None


@pytest.mark.parametrize(
    ("session", "told"),
    [
        ("$ echo a\nb\n", "$ echo a\nshould print\nb\n\nand printed\na\n"),
        ("$ echo a\n", "should print\n\nand printed\na\n"),
        ("$ true\na\n", "should print\na\n"),
        ("$ exit 3\n$ echo a\na\n", "it ended early"),
        ("$ echo a\na\n$ exit 3\n", "it ended early"),
    ],
)
def test_a_session_as_it_does_not_happen(session, told):
    assert told in differences(session)
