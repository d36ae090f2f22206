"""Go writes an empty map or list as `null` now and then; here it is read as empty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

__all__ = ["NullAs"]


@dataclass(frozen=True, slots=True)
class NullAs:
    """Marks a field whose `null` means an empty value.

    Args:
        empty: makes the empty value.

    Pydantic's core tries the field's own schema first, so that only a `null` costs a call into Python.
    """

    empty: Callable[[], object]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        null = core_schema.no_info_after_validator_function(lambda _: self.empty(), core_schema.none_schema())
        return core_schema.union_schema([handler(source), null], mode="left_to_right")
