"""What is taken for a host and for a port in an answer, as schemas of Pydantic's core and as types for its models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic_core import CoreSchema, core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

__all__ = ["HOST", "PORT", "Host", "Port"]

_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"(?:{_BYTE}\.){{3}}{_BYTE}"
_GROUP = "[0-9A-Fa-f]{0,4}"
_ZONE = "(?:%[A-Za-z0-9_.-]{1,64})?"
_IPV6 = rf"(?:(?:{_GROUP}:){{2,7}}(?:{_GROUP}|{_IPV4})|:(?::{_GROUP}){{7}}|(?:{_GROUP}:){{7}}:){_ZONE}"
"""Every address is such a text, but not the reverse: to be exact would take a first look-up half a millisecond."""
_NAME = r"(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]*[A-Za-z_][A-Za-z0-9_-]*\.?"

HOST = core_schema.str_schema(pattern=rf"^(?:|{_IPV4}|{_IPV6}|{_NAME})$", max_length=253)
"""An IP address, a host name, or nothing. Agents store whatever they are told (`http://evil`, `a b`, `host:80`)."""

PORT = core_schema.int_schema(ge=0, le=65535, strict=True)
"""A port, or 0 for none. Agents store -1 and 70000 too."""


class _Read:
    """Marks a type that is read by a schema of Pydantic's core."""

    __slots__ = ("_schema",)

    def __init__(self, schema: CoreSchema) -> None:
        self._schema = schema

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return self._schema


Host = Annotated[str, _Read(HOST)]
Port = Annotated[int, _Read(PORT)]
