"""The plugin that looks for secrets finds them, wherever they are written."""

from __future__ import annotations

import logging
import os

import pytest
from pydantic import SecretStr

from consul_access import ServerError
from tests.support.secrets import Secrets


@pytest.fixture
def secrets(monkeypatch):
    """One of its own beside the session's, which would fail these tests."""
    monkeypatch.setattr(SecretStr, "__init__", SecretStr.__init__)
    monkeypatch.setattr("consul_access.errors.ConsulAccessError.__init__", ServerError.__init__)
    log = logging.getLogger("consul_access")
    monkeypatch.setattr(log, "debug", log.debug)
    monkeypatch.setattr(log, "info", log.info)
    factory = logging.getLogRecordFactory()
    # What is a secret to it is none to the session's, which was there before it.
    made = Secrets()
    made._hear_errors()
    made._hear_logs()
    made.canaries.add(CANARY)
    yield made
    logging.setLogRecordFactory(factory)


CANARY = f"canary-{os.getpid()}-bird"


def test_a_record_with_a_secret_is_noticed_whatever_its_level(secrets):
    log = logging.getLogger("consul_access")
    log.debug("sent with %s", CANARY)
    log.warning("refused: %s", {"token": CANARY})
    assert len(secrets.leaked()) == 2
    assert secrets.leaked() == []


def test_a_record_with_an_error_that_has_a_secret_is_noticed(secrets):
    try:
        raise ValueError(CANARY)
    except ValueError:
        logging.getLogger("elsewhere").exception("it failed")
    assert len(secrets.leaked()) == 1


def test_an_error_with_a_secret_is_noticed_also_when_it_gets_it_later(secrets):
    assert str(ServerError(f"refused {CANARY}"))
    assert len(secrets.leaked()) == 1
    error = ServerError("refused")
    error.excerpt = CANARY
    assert len(secrets.leaked()) == 1


def test_whatever_becomes_a_secret_is_a_canary_and_a_common_word_is_none(monkeypatch):
    monkeypatch.setattr(SecretStr, "__init__", SecretStr.__init__)
    secrets = Secrets()
    secrets._hear_secrets()
    for value in (CANARY, "root", "token", "made a moment ago"):
        assert SecretStr(value).get_secret_value() == value
    assert secrets.canaries == {CANARY}


def test_it_watches_this_very_session(request):
    plugin = request.config.pluginmanager.get_plugin("secrets of consul-access")
    assert SecretStr("canary-of-this-1-session").get_secret_value() in plugin.secrets.canaries


pytest_plugins = ["pytester"]


def test_a_test_that_writes_a_secret_down_fails(pytester):
    pytester.makeconftest(
        """
        from tests.support.secrets import Plugin

        def pytest_configure(config):
            config.pluginmanager.register(Plugin())
        """
    )
    pytester.makepyfile(
        """
        from consul_access import ConsulAccess

        def test_print():
            with ConsulAccess(token="canary-printed-1") as access:
                print(access.settings.token.read())

        def test_nothing():
            with ConsulAccess(token="canary-silent-2") as access:
                print(access.settings)
        """
    )
    pytester.runpytest_subprocess("-p", "no:asyncio", "-p", "no:cacheprovider").assert_outcomes(passed=2, errors=1)
