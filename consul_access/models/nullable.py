"""Go writes an empty map or list as `null` now and then; here it is read as empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic_core import CoreSchema, core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

__all__ = ["NullAs", "null_as"]


def null_as(schema: CoreSchema, empty: Callable[[], object]) -> CoreSchema:
    """The schema, which also takes `null`, for an empty value.

    Pydantic's core tries the schema itself first, so that only a `null` costs a call into Python.
    """
    null = core_schema.no_info_after_validator_function(lambda _: empty(), core_schema.none_schema())
    return core_schema.union_schema([schema, null], mode="left_to_right")


class NullAs:
    """Marks a field whose `null` means an empty value.

    Args:
        empty: makes the empty value.
    """

    __slots__ = ("_empty",)

    def __init__(self, empty: Callable[[], object]) -> None:
        self._empty = empty

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return null_as(handler(source), self._empty)
