"""Makes values out of an answer's bytes: in one step when all is well, entry by entry when something is not."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from consul_access.call import Reply
from consul_access.errors import BadAnswer
from consul_access.models.meta import Entries, QueryMeta

__all__ = ["decode", "decode_list"]

T = TypeVar("T")
log = logging.getLogger("consul_access")


def _adapter(kind: Any) -> TypeAdapter[Any]:
    return _made(kind)


@cache
def _made(kind: Any) -> TypeAdapter[Any]:
    # Made when the first such answer comes: building one takes milliseconds that not every program needs to spend.
    return TypeAdapter(kind)


def decode(kind: type[T], reply: Reply) -> T:
    """The answer as a value of this type.

    Raises:
        BadAnswer: it is something else.
    """
    try:
        value: T = _adapter(kind).validate_json(reply.body)
    except ValidationError as error:
        raise _bad(reply, error) from error
    return value


def decode_list(kind: type[T], reply: Reply) -> Entries[T]:
    """The answer as a list of values of this type. Entries that are none are left out, counted and logged.

    Raises:
        BadAnswer: it is no list, or nothing in it can be used.
    """
    meta = QueryMeta(reply.headers)
    try:
        return Entries(_adapter(list[kind]).validate_json(reply.body), meta=meta)  # type: ignore[valid-type]
    except ValidationError as error:
        entries, failures = _one_by_one(kind, reply, error)
    if not entries:
        raise _bad(reply, failures[0]) from failures[0]
    log.warning("%d entries of %s cannot be used: %s", len(failures), reply.address, _first(failures[0]))
    return Entries(entries, meta=meta, rejected=len(failures))


def _one_by_one(kind: type[T], reply: Reply, whole: ValidationError) -> tuple[list[T], list[ValidationError]]:
    try:
        raw = from_json(reply.body)
    except ValueError:
        return [], [whole]
    if not isinstance(raw, list):
        return [], [whole]
    entries: list[T] = []
    failures: list[ValidationError] = []
    for entry in raw:
        try:
            entries.append(_adapter(kind).validate_json(to_json(entry)))
        except ValidationError as error:
            failures.append(error)
    return entries, failures or [whole]


def _bad(reply: Reply, error: ValidationError) -> BadAnswer:
    return BadAnswer(
        f"the answer is not what was asked for: {_first(error)}", status=reply.status, excerpt=reply.excerpt()
    )


def _first(error: ValidationError) -> str:
    detail = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in detail["loc"])
    return f"{place}: {detail['msg']}" if place else detail["msg"]
