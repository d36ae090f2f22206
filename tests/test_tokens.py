"""Where tokens come from, and that they stay hidden."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from pydantic import SecretStr

from consul_access import InvalidSettings
from consul_access.tokens import FileToken, FunctionToken, NoToken, StaticToken, token_source


def test_nothing_is_no_token():
    assert NoToken().read() is None
    assert NoToken().refresh() is None


@pytest.mark.parametrize("value", ["t0k3n", SecretStr("t0k3n")])
def test_a_text_stays_as_it_is(value):
    source = token_source(value)
    assert isinstance(source, StaticToken)
    assert source.read() == source.refresh() == "t0k3n"


def test_an_empty_text_is_no_token():
    assert token_source("").read() is None


def test_a_file_is_read_again_when_it_changes(tmp_path):
    file = tmp_path / "token"
    file.write_text("  one\n")
    source = token_source(file)
    assert isinstance(source, FileToken)
    assert source.read() == "one"
    file.write_text("second")
    assert source.read() == "second"


def test_a_file_replaced_by_another_of_the_same_size_is_noticed(tmp_path):
    file, other = tmp_path / "token", tmp_path / "other"
    file.write_text("one")
    source = FileToken(file)
    other.write_text("two")
    other.rename(file)
    assert source.read() == "two"


def test_refreshing_reads_a_file_that_looks_unchanged(tmp_path):
    file = tmp_path / "token"
    file.write_text("one")
    moment = time.time_ns()
    os.utime(file, ns=(moment, moment))
    source = FileToken(file)
    file.write_text("two")
    os.utime(file, ns=(moment, moment))
    assert source.refresh() == "two"


def test_while_a_file_is_being_replaced_the_last_token_counts(tmp_path):
    file = tmp_path / "token"
    file.write_text("one")
    source = FileToken(file)
    file.unlink()
    assert source.read() == source.refresh() == "one"


def test_a_file_that_is_not_there_at_the_beginning_is_refused(tmp_path):
    with pytest.raises(InvalidSettings, match="nowhere"):
        FileToken(tmp_path / "nowhere")


def test_a_function_is_asked_once_and_again_when_told_to():
    answers = iter(["one", SecretStr("two"), None])
    source = token_source(lambda: next(answers))
    assert isinstance(source, FunctionToken)
    assert source.read() == source.read() == "one"
    assert source.refresh() == source.read() == "two"
    assert source.refresh() is None


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_async_function_is_awaited(wrapped):
    async def function() -> str:
        return "one"

    def wrapper():
        return function()

    async def story() -> None:
        source = token_source(wrapper if wrapped else function)
        assert await source.read() == "one"
        assert source.read() == "one"
        assert await source.refresh() == "one"

    asyncio.run(story())


@pytest.mark.parametrize("wrong", ["two words\n", "tab\there", "é", "\x00"])
def test_what_cannot_be_sent_is_refused_and_not_repeated(wrong, tmp_path):
    file = tmp_path / "token"
    file.write_text(f"a{wrong}b")
    for make in (
        lambda: token_source(f"a{wrong}b"),
        lambda: token_source(file),
        token_source(lambda: f"a{wrong}b").read,
    ):
        with pytest.raises(InvalidSettings) as caught:
            make()
        assert wrong.strip() not in str(caught.value) or not wrong.strip()


def test_other_things_are_no_tokens():
    with pytest.raises(InvalidSettings, match="bytes"):
        token_source(b"x")
    with pytest.raises(InvalidSettings, match="int"):
        token_source(lambda: 5).read()
