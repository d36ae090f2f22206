"""Runs the examples of the README and of the documentation, each page beside a real agent of its own.

Blocks of `python` are run as they are; blocks of `console` as `tests.support.console` says.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any
from unittest import mock

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from tests.support.agents import ConsulAgent
from tests.support.console import differences


def begin(namespace: dict[str, Any]) -> None:
    """An agent that CONSUL_HTTP_ADDR names, and an empty folder to be in."""
    stack = namespace["_page"] = contextlib.ExitStack()
    agent = stack.enter_context(ConsulAgent())
    stack.enter_context(mock.patch.dict(os.environ, {"CONSUL_HTTP_ADDR": agent.address}))
    stack.enter_context(contextlib.chdir(stack.enter_context(tempfile.TemporaryDirectory())))


def end(namespace: dict[str, Any]) -> None:
    namespace["_page"].close()


def run_session(example: Example) -> str | None:
    """A block of `console`."""
    return differences(example.parsed)


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("console", run_session), SkipParser()],
    patterns=["*.md"],
    setup=begin,
    teardown=end,
).pytest()
