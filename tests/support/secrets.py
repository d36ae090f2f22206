"""A pytest plugin: fails a test in which a secret is written down, in a log, a warning, an error or on the screen.

Every value that becomes a `SecretStr` is a canary until the end of its test, unless it is such a word as a text may
have anyway; fakes make the same ids in each test, and what is a token in one is a name in another. Records below the
logger's level are looked at as well.
"""

from __future__ import annotations

import logging
import re
import traceback
import weakref
from collections.abc import Generator
from typing import Any

import pytest
from pydantic import SecretStr

from consul_access.errors import ConsulAccessError

UNMISTAKABLE = re.compile(r"(?=.*\d)(?=.*[a-zA-Z]).{8,}", re.DOTALL)
"""Long enough, of letters and digits: nothing that stands in a text by chance."""


class Secrets:
    """What must not be told, and what was told."""

    def __init__(self) -> None:
        self.canaries: set[str] = set()
        self._told: list[str] = []
        self._errors: list[weakref.ref[ConsulAccessError]] = []

    def listen(self) -> None:
        """Begins to hear of secrets, log records and errors."""
        self._hear_secrets()
        self._hear_errors()
        self._hear_logs()

    def tell(self, what: str, text: str) -> None:
        """Takes down that this was said, if a secret is in it."""
        self._told += [f"{what}: {text!r}" for canary in self.canaries if canary in text]

    def leaked(self) -> list[str]:
        """What was said since the last time and should not have been."""
        for reference in self._errors:
            if (error := reference()) is not None:
                self.tell("an error", f"{error} {error!r} {vars(error)}")
        told, self._told, self._errors = self._told, [], []
        return told

    def _hear_secrets(self) -> None:
        made = SecretStr.__init__

        def hear(secret: SecretStr, value: str) -> None:
            made(secret, value)
            if UNMISTAKABLE.fullmatch(value):
                self.canaries.add(value)

        SecretStr.__init__ = hear  # type: ignore[method-assign]

    def _hear_errors(self) -> None:
        made = ConsulAccessError.__init__

        def hear(error: ConsulAccessError, message: str, **fields: Any) -> None:
            made(error, message, **fields)
            self.tell("an error", f"{message} {fields}")
            self._errors.append(weakref.ref(error))

        ConsulAccessError.__init__ = hear  # type: ignore[method-assign]

    def _hear_logs(self) -> None:
        make = logging.getLogRecordFactory()

        def hear(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = make(*args, **kwargs)
            self._read(record.name, record.msg, record.args, record.exc_info)
            return record

        logging.setLogRecordFactory(hear)
        log: Any = logging.getLogger("consul_access")
        for level in ("debug", "info"):  # which make no record as long as nobody wants it
            setattr(log, level, self._reading(getattr(log, level)))

    def _reading(self, say: Any) -> Any:
        def hear(message: object, *args: object, **kwargs: Any) -> None:
            self._read("consul_access", message, args, None)
            say(message, *args, stacklevel=kwargs.pop("stacklevel", 1) + 1, **kwargs)

        return hear

    def _read(self, name: str, message: object, args: Any, exc_info: Any) -> None:
        text = str(message)
        if args:
            text = text % (args if isinstance(args, dict | tuple) else (args,))
        if isinstance(exc_info, tuple) and exc_info[1] is not None:
            text += "".join(traceback.format_exception(exc_info[1]))
        self.tell(f"a record of {name}", text)


class Plugin:
    """Looks after each phase of each test."""

    def __init__(self) -> None:
        self.secrets = Secrets()
        self.secrets.listen()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "teardown":  # it holds what was captured in all three phases
            self.secrets.tell("on the screen", report.capstdout + report.capstderr)
        if leaked := self.secrets.leaked():
            report.outcome = "failed"
            report.longrepr = "a secret was written down\n" + "\n".join(leaked)
        if report.when == "teardown":
            self.secrets.canaries.clear()
        return report

    @pytest.hookimpl
    def pytest_warning_recorded(self, warning_message: Any) -> None:
        self.secrets.tell("a warning", str(warning_message.message))
