"""The errors: one family, each with its place in the drawn tree, a text that helps, and no loss on the way."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

from consul_access import errors
from consul_access.errors import (
    ConnectFailed,
    ConnectionLost,
    ConsulAccessError,
    DeadlineExceeded,
    InvalidInput,
    NoInstances,
    NoLeader,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    RequestRefused,
    Unavailable,
    UnknownService,
)

FAMILY: list[type[ConsulAccessError]] = [getattr(errors, name) for name in errors.__all__]
DRAWN = re.compile(r"^    (?P<indent>[│ ]*)[├└]── (?P<name>\w+)(?: \((?P<also>\w+)\))? +(?P<text>\S.*)$", re.MULTILINE)


def drawn() -> dict[str, tuple[str, str | None]]:
    """The tree in the module's text: each class with its parent and the built-in error it also is."""
    found: dict[str, tuple[str, str | None]] = {}
    above = ["ConsulAccessError"]
    for line in DRAWN.finditer(errors.__doc__ or ""):
        depth = len(line["indent"]) // 4
        del above[depth + 1 :]
        found[line["name"]] = (above[depth], line["also"])
        above.append(line["name"])
    return found


def whole(kind: type[ConsulAccessError]) -> ConsulAccessError:
    return kind(
        "it broke",
        operation="health.service",
        address="127.0.0.1:8500",
        status=500,
        excerpt="No cluster leader",
        attempts=3,
        elapsed=1.25,
    )


def test_the_drawn_tree_holds_every_class() -> None:
    assert {"ConsulAccessError", *drawn()} == set(errors.__all__)


@pytest.mark.parametrize("name", drawn())
def test_every_class_has_the_parent_that_is_drawn(name: str) -> None:
    parent, also = drawn()[name]
    kind = getattr(errors, name)

    assert kind.__bases__[0] is getattr(errors, parent)
    assert not also or also in {base.__name__ for base in kind.__mro__}


@pytest.mark.parametrize("kind", FAMILY)
def test_every_class_is_explained_in_its_own_words(kind: type[ConsulAccessError]) -> None:
    first = (kind.__dict__.get("__doc__") or "").strip().splitlines()[0]

    assert len(first) > 20
    assert first[0].isupper()


def test_every_class_of_the_family_is_public() -> None:
    defined = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ConsulAccessError)
    }

    assert defined == set(errors.__all__)


@pytest.mark.parametrize("kind", FAMILY)
def test_every_class_is_caught_by_the_root(kind: type[ConsulAccessError]) -> None:
    with pytest.raises(ConsulAccessError):
        raise kind("it broke")


@pytest.mark.parametrize("kind", FAMILY)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling_with_its_fields(kind: type[ConsulAccessError], protocol: int) -> None:
    error = whole(kind)
    found = pickle.loads(pickle.dumps(error, protocol))

    assert type(found) is kind
    assert vars(found) == vars(error)
    assert (str(found), found.args) == (str(error), error.args)


@pytest.mark.parametrize("kind", FAMILY)
def test_every_error_can_be_copied(kind: type[ConsulAccessError]) -> None:
    assert str(copy.copy(whole(kind))) == str(copy.deepcopy(whole(kind))) == str(whole(kind))


def test_whether_a_write_can_be_repeated_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(OutcomeUnknown("lost", repeatable=True))).repeatable


@pytest.mark.parametrize("kind", FAMILY)
def test_only_what_may_pass_by_itself_is_retryable(kind: type[ConsulAccessError]) -> None:
    expected = issubclass(kind, (Unavailable, NoInstances, errors.NotReady)) and kind is not errors.TlsError

    assert kind.retryable is expected


def test_the_text_says_what_was_asked_of_whom_what_came_back_and_what_to_do() -> None:
    assert str(whole(NoLeader)) == (
        "health.service at 127.0.0.1:8500: it broke (HTTP 500, 'No cluster leader'), after 3 attempts in 1.2 s. "
        "Elections take seconds; if this lasts, look at the servers (consul operator raft list-peers)."
    )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InvalidInput("port=0 is out of bounds"), "port=0 is out of bounds"),
        (RequestRefused("no", operation="kv.get"), "kv.get: no"),
        (RequestRefused("no", address="a:1"), "no"),
        (RequestRefused("no", status=409), "no (HTTP 409)"),
        (RequestRefused("no", excerpt="a\nb"), r"no ('a\nb')"),
        (RequestRefused("no", attempts=1, elapsed=2.0), "no"),
    ],
)
def test_the_text_leaves_out_what_is_not_known(error: ConsulAccessError, text: str) -> None:
    assert str(error) == text


def test_an_excerpt_is_cut_at_200_characters() -> None:
    assert NotFound("x", excerpt="a" * 1000).excerpt == "a" * 200
    assert NotFound("x", excerpt="").excerpt is None


def test_advice_is_whole_sentences() -> None:
    for kind in FAMILY:
        assert not kind.advice or (kind.advice[0].isupper() and kind.advice[-1] in ".?)"), kind


@pytest.mark.parametrize(
    ("error", "builtin"),
    [(InvalidInput("x"), ValueError), (NoInstances("x"), LookupError), (DeadlineExceeded("x"), TimeoutError)],
)
def test_an_error_is_also_the_built_in_one_that_programs_expect(
    error: ConsulAccessError, builtin: type[Exception]
) -> None:
    assert isinstance(error, builtin)
    assert str(error).startswith("x")


def test_a_narrow_error_is_caught_by_the_wider_one() -> None:
    assert issubclass(UnknownService, RequestRefused)
    assert issubclass(ConnectFailed, Unavailable)
    assert issubclass(ConnectionLost, Unavailable)
    assert not issubclass(PermissionDenied, Unavailable)
