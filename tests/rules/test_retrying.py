"""Whether a failed attempt is worth another one, and what is said in the end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.call import Call, Headers, Repeat, Reply
from consul_access.consul.texts import meaning
from consul_access.errors import (
    BadAnswer,
    ConnectFailed,
    ConnectionLost,
    ConsulAccessError,
    FilterError,
    NoLeader,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
    ServerError,
    TlsError,
    TokenUnknown,
    UnexpectedRedirect,
)
from consul_access.rules.retrying import Failed, conclude, pause, refusal, worth_repeating
from consul_access.settings import RetryPolicy


def call(repeat: Repeat = Repeat.READ, subject: str = "") -> Call[Any]:
    return Call(name="kv.put", method="PUT", path="/v1/kv/a", read=lambda reply: reply, repeat=repeat, subject=subject)


def answered(status: int, text: str = "", subject: str = "", **headers: str) -> Failed:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    reply = Reply(status, Headers(raw), text.encode(), address="127.0.0.1:8500")
    return refusal(call(subject=subject), reply, meaning, retry_after_cap=30.0)


# --- what a refusal says ----------------------------------------------------------------------------------


def test_a_refusal_tells_who_was_asked_for_what_and_what_came_back() -> None:
    error = answered(403, "Permission denied", subject="web").error

    assert isinstance(error, PermissionDenied)
    assert str(error).startswith(
        "kv.put at 127.0.0.1:8500: the token may not do this: 'web' (HTTP 403, 'Permission denied'). "
    )


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 399])
def test_a_redirect_is_never_followed_and_tells_where_it_leads(status: int) -> None:
    failed = answered(status, location="http://evil/")

    assert isinstance(failed.error, UnexpectedRedirect)
    assert "'http://evil/'" in str(failed.error)
    assert not failed.applied
    assert not worth_repeating(Repeat.READ, failed)


@pytest.mark.parametrize("status", [201, 204, 206])
def test_a_success_that_the_call_does_not_know_may_have_been_applied(status: int) -> None:
    failed = answered(status)

    assert type(failed.error) is BadAnswer
    assert failed.applied


@pytest.mark.parametrize(
    ("text", "wait"),
    [("5", 5.0), (" 7 ", 7.0), ("0", 0.0), ("3600", 30.0), ("9" * 5000, 30.0), ("", None), ("-1", None), ("1.5", None),
     ("\uff15", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("nan", None)],
)  # fmt: skip
def test_a_pause_that_the_server_asks_for_is_read_and_bounded(text: str, wait: float | None) -> None:
    reply = Reply(429, Headers([(b"Retry-After", text.encode("utf-8"))]), b"")

    assert refusal(call(), reply, meaning, retry_after_cap=30.0).wait == wait


def test_a_final_refusal_asks_for_no_pause() -> None:
    assert answered(403, "Permission denied", retry_after="5").wait is None


# --- whether to try again ---------------------------------------------------------------------------------

LATER: list[ConsulAccessError] = [
    ConnectionLost("x"),
    NoLeader("x"),
    RateLimited("x"),
    ServerError("x"),
    ConnectFailed("x"),
]
NEVER: list[ConsulAccessError] = [PermissionDenied("x"), FilterError("x"), TlsError("x"), BadAnswer("x")]


@pytest.mark.parametrize("error", LATER, ids=lambda error: type(error).__name__)
def test_after_a_passing_fault_all_is_repeated_but_a_write_that_may_have_been_applied_once(
    error: ConsulAccessError,
) -> None:
    for repeat in Repeat:
        assert worth_repeating(repeat, Failed(error, applied=False))
        assert worth_repeating(repeat, Failed(error, applied=True)) is (repeat is not Repeat.NEVER)


@pytest.mark.parametrize("error", NEVER, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("repeat", Repeat)
def test_after_a_final_refusal_nothing_is_repeated(error: ConsulAccessError, repeat: Repeat) -> None:
    assert not worth_repeating(repeat, Failed(error, applied=False))


def test_a_renewed_token_makes_a_final_refusal_worth_one_more_attempt() -> None:
    assert worth_repeating(Repeat.NEVER, Failed(TokenUnknown("x"), applied=False, again=True))


def highest(low: float, high: float) -> float:
    return high


LOST = Failed(ConnectionLost("x"), applied=True)


def test_pauses_double_up_to_their_cap() -> None:
    policy = RetryPolicy(attempts=9, base=0.1, cap=5.0)

    assert [pause(policy, attempt, LOST, highest) for attempt in range(1, 9)] == pytest.approx(
        [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    )


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_a_pause_lies_between_nothing_and_its_cap_however_many_attempts(attempt: int, chance: float) -> None:
    assert 0 <= pause(RetryPolicy(), attempt, LOST, lambda low, high: low + chance * (high - low)) <= 5.0


def test_a_pause_that_the_server_asks_for_comes_before_the_back_off() -> None:
    assert pause(RetryPolicy(), 1, Failed(RateLimited("x"), applied=False, wait=7.0), highest) == 7.0
    assert pause(RetryPolicy(), 5, Failed(RateLimited("x"), applied=False, wait=0.0), highest) == 0.0


# --- what is said in the end ------------------------------------------------------------------------------


def ended(repeat: Repeat, failed: Failed, *, applied: bool) -> ConsulAccessError:
    return conclude(call(repeat), failed, attempts=3, elapsed=1.25, applied=applied)


@pytest.mark.parametrize("applied", [True, False])
def test_a_failed_read_raises_its_last_error(applied: bool) -> None:
    assert ended(Repeat.READ, LOST, applied=applied) is LOST.error
    assert (LOST.error.attempts, LOST.error.elapsed) == (3, 1.25)


@pytest.mark.parametrize("repeat", [Repeat.IDEMPOTENT, Repeat.NEVER])
def test_a_write_that_may_have_been_applied_has_an_unknown_outcome(repeat: Repeat) -> None:
    error = ended(repeat, LOST, applied=True)

    assert isinstance(error, OutcomeUnknown)
    assert error.repeatable is (repeat is Repeat.IDEMPOTENT)
    assert error.__cause__ is LOST.error
    assert (error.attempts, error.elapsed) == (3, 1.25)


def test_a_write_that_was_lost_once_and_then_not_even_sent_has_an_unknown_outcome() -> None:
    assert isinstance(ended(Repeat.NEVER, Failed(ConnectFailed("x"), applied=False), applied=True), OutcomeUnknown)


@pytest.mark.parametrize("repeat", Repeat)
def test_a_write_that_was_never_sent_raises_its_last_error(repeat: Repeat) -> None:
    failed = Failed(ConnectFailed("x"), applied=False)

    assert ended(repeat, failed, applied=False) is failed.error


@pytest.mark.parametrize("repeat", Repeat)
def test_a_write_that_was_refused_in_the_end_raises_the_refusal(repeat: Repeat) -> None:
    failed = Failed(PermissionDenied("x"), applied=False)

    assert ended(repeat, failed, applied=True) is failed.error
