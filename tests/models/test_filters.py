"""Filter expressions: quoted right, and meaning what they say."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_access.errors import InvalidInput
from consul_access.models.filters import F, Filter, Scope

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.text('"\\`\n\r\t\0x2 ', max_size=12)
_ESCAPE = re.compile(r"\\(?:\\|x([0-9a-f]{2}))")


def literal(expression: str) -> tuple[str, str]:
    """Reads a literal as go-bexpr of Consul 1.8.7 does: what it says, and what follows it.

    It ends at the first double quote, escaped or not; then Go's `strconv.Unquote` reads what is between.
    """
    assert expression.startswith('"')
    inner, _, rest = expression[1:].partition('"')
    assert "\n" not in inner, "Go's literals cannot hold a line break"
    text, position = "", 0
    while position < len(inner):
        if inner[position] != "\\":
            text += inner[position]
            position += 1
            continue
        escape = _ESCAPE.match(inner, position)
        assert escape, f"Go knows no such escape: {inner[position : position + 4]!r}"
        text += chr(int(escape[1], 16)) if escape[1] else "\\"
        position = escape.end()
    return text, rest


@given(TEXTS)
def test_the_literal_of_any_text_ends_where_it_should_and_says_that_text(text: str) -> None:
    expression = str(F.service.address == text)

    assert expression.startswith("Service.Address == ")
    assert literal(expression.removeprefix("Service.Address == ")) == (text, "")


@given(TEXTS, TEXTS)
def test_any_key_and_value_of_meta_end_where_they_should(key: str, value: str) -> None:
    expression = str(F.service.meta[key] == value)

    assert expression.startswith("Service.Meta[")
    read_key, rest = literal(expression.removeprefix("Service.Meta["))
    assert read_key == key
    assert rest.startswith("] == ")
    assert literal(rest.removeprefix("] == ")) == (value, "")


@given(TEXTS)
def test_any_tag_ends_where_it_should(tag: str) -> None:
    assert literal(str(F.service.tags.contains(tag))) == (tag, " in Service.Tags")


@given(TEXTS)
def test_no_text_leaves_a_control_character_in_the_expression(text: str) -> None:
    assert not re.search(r"[\x00-\x1f\x7f]", str(F.node.name != text))


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (F.service.id == "web-1", 'Service.ID == "web-1"'),
        (F.service.name != "web", 'Service.Service != "web"'),
        (F.service.port == 80, 'Service.Port == "80"'),
        (F.service.tags.is_empty, "Service.Tags is empty"),
        (F.service.meta.contains("k"), '"k" in Service.Meta'),
        (F.service.meta["a b"].matches("^x"), 'Service.Meta["a b"] matches "^x"'),
        (F.node.meta["rack"] == "1", 'Node.Meta["rack"] == "1"'),
        (F.node.datacenter == "dc1", 'Node.Datacenter == "dc1"'),
        (F.any_check(status="passing"), 'Checks.Status == "passing"'),
        (F.no_check(status="critical"), 'not (Checks.Status == "critical")'),
        (F.any_check(name="disk"), 'Checks.Name == "disk"'),
        (F.no_check(id="serfHealth"), 'not (Checks.CheckID == "serfHealth")'),
        (~(F.service.id == "a"), 'not (Service.ID == "a")'),
        (F.service.address == 'a"b', 'Service.Address == "a\\x22b"'),
        (F.service.address == "a\\b", 'Service.Address == "a\\\\b"'),
    ],
)
def test_questions_are_written_as_consul_reads_them(question: Filter, text: str) -> None:
    assert str(question) == text


def test_combined_questions_keep_their_parentheses() -> None:
    question = (F.service.id == "a") | (F.service.id == "b") & ~F.service.tags.contains("c")

    assert str(question) == ('(Service.ID == "a") or ((Service.ID == "b") and (not ("c" in Service.Tags)))')


@pytest.mark.parametrize(
    ("scope", "text"),
    [
        ("health", '(Service.Meta["v"] == "2") and (Node.Node == "n")'),
        ("catalog", '(ServiceMeta["v"] == "2") and (Node == "n")'),
    ],
)
def test_one_question_is_written_differently_for_each_answer(scope: Scope, text: str) -> None:
    assert ((F.service.meta["v"] == "2") & (F.node.name == "n")).render(scope) == text


@pytest.mark.parametrize(
    ("question", "scope"),
    [
        (F.no_check(status="critical"), "catalog"),
        (F.any_check(name="x"), "checks"),
        (F.service.meta["v"] == "2", "checks"),
        (F.service.port == 80, "nodes"),
        (F.node.address == "10.0.0.1", "checks"),
    ],
)
def test_what_an_answer_does_not_hold_is_refused_before_sending(question: Filter, scope: Scope) -> None:
    with pytest.raises(InvalidInput, match="cannot be filtered by"):
        question.render(scope)


def test_a_bare_question_about_the_state_of_checks_cannot_be_asked() -> None:
    assert not hasattr(F, "checks")


@pytest.mark.parametrize("given_properties", [{}, {"status": "passing", "name": "disk"}, {"name": "a", "id": "b"}])
def test_a_question_about_checks_names_exactly_one_property(given_properties: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="one property"):
        F.any_check(**given_properties)


@pytest.mark.parametrize("status", ["maintenance", "PASSING", "", "any"])
def test_a_state_that_no_check_can_have_is_refused(status: str) -> None:
    with pytest.raises(InvalidInput, match="'passing', 'warning' or 'critical'"):
        F.no_check(status=status)


@pytest.mark.parametrize("value", [1.5, None, b"x", ["a"], object()])
def test_what_has_no_form_in_a_filter_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="cannot be compared"):
        _ = F.service.address == value


def test_a_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidInput):
        str(F.service.meta[5] == "x")  # type: ignore[index]


def test_and_or_and_not_are_refused_since_they_would_drop_half_of_the_question() -> None:
    left, right = F.service.id == "a", F.service.id == "b"

    with pytest.raises(InvalidInput, match=r"& \| ~"):
        _ = left and right
    with pytest.raises(InvalidInput, match=r"& \| ~"):
        _ = left or right
    with pytest.raises(InvalidInput, match=r"& \| ~"):
        _ = not left
