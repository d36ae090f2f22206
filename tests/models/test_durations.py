"""Lengths of time as Go writes them."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import InvalidInput
from consul_access.models.durations import go_duration, seconds

LENGTHS = st.one_of(
    st.floats(min_value=0, max_value=1e9, allow_nan=False),
    st.integers(min_value=0, max_value=9 * 10**9),
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=100_000)),
)


@given(LENGTHS)
def test_a_written_length_reads_back_as_the_same_length(value: float | timedelta) -> None:
    expected = value.total_seconds() if isinstance(value, timedelta) else float(value)

    assert math.isclose(seconds(go_duration(value, what="wait"), what="wait"), expected, rel_tol=1e-12, abs_tol=1e-9)


@given(LENGTHS)
def test_a_written_length_always_has_a_unit(value: float | timedelta) -> None:
    assert go_duration(value, what="wait")[-1] == "s" or go_duration(value, what="wait")[-1] in "mh"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0s"),
        (0.001, "1ms"),
        (0.25, "250ms"),
        (0.0000015, "0.0000015s"),
        (1, "1s"),
        (1.5, "1.5s"),
        (55.0, "55s"),
        (60, "1m"),
        (90, "1m30s"),
        (90.5, "1m30.5s"),
        (3600, "1h"),
        (3661, "1h1m1s"),
        (86400, "24h"),
        (timedelta(minutes=10), "10m"),
        (timedelta(milliseconds=10), "10ms"),
        (0.9999999999, "1s"),
        (59.9999999999, "1m"),
    ],
)
def test_lengths_are_written_as_go_writes_them(value: float | timedelta, text: str) -> None:
    assert go_duration(value, what="interval") == text


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("10s", 10.0),
        ("1m30s", 90.0),
        ("1h1m1s", 3661.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("5.s", 5.0),
        ("+5s", 5.0),
        ("500ms", 0.5),
        ("7us", 7e-6),
        ("7µs", 7e-6),
        ("7μs", 7e-6),
        ("7ns", 7e-9),
        ("1m1ms", 60.001),
    ],
)
def test_texts_that_go_reads_are_read_and_sent_unchanged(text: str, length: float) -> None:
    assert math.isclose(seconds(text, what="ttl"), length, abs_tol=1e-15)
    assert go_duration(text, what="ttl") == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "5.5",
        "s",
        "10 s",
        " 10s",
        "10s\n",
        "10S",
        "1d",
        "1w",
        "-5s",
        "1m-30s",
        "1e3s",
        "+",
        ".s",
        "nan",
        "infs",
    ],
)
def test_texts_that_go_does_not_read_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^wait="):
        seconds(text, what="wait")


@pytest.mark.parametrize("text", ["١٠s", "１0s"])
def test_digits_that_go_does_not_read_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        go_duration(text, what="wait")


@pytest.mark.parametrize(
    "value",
    [-1, -0.001, math.nan, math.inf, -math.inf, 1e300, timedelta(seconds=-1), timedelta.max, "9" * 400 + "h", 10**400],
)
def test_lengths_that_nobody_can_wait_for_are_refused(value: float | str | timedelta) -> None:
    with pytest.raises(InvalidInput, match="can be waited for"):
        seconds(value, what="wait")


@pytest.mark.parametrize("value", [True, False, None, [], b"10s", 5j])
def test_what_is_no_length_at_all_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="is no duration"):
        go_duration(value, what="wait")  # type: ignore[arg-type]


def test_the_refusal_names_the_argument_the_value_and_what_to_write_instead() -> None:
    with pytest.raises(InvalidInput) as caught:
        seconds("10", what="interval")

    assert str(caught.value) == "interval='10' is no duration: write a number and a unit, such as '10s' or '1m30s'"


@given(st.text(max_size=12) | st.from_regex(r"[0-9.+hmsuµn]{1,12}", fullmatch=True))
def test_any_text_is_either_read_or_refused(text: str) -> None:
    try:
        length = seconds(text, what="wait")
    except InvalidInput:
        return
    assert 0 <= length < math.inf
    assert text == "0" or text[-1] in "smh"
