"""Protobuf as bytes: numbers, and fields with their wire types. What the fields mean is told elsewhere.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from typing import Final

from consul_access.errors import BadValue

__all__ = [
    "ALL_BITS",
    "BYTES",
    "MOST_BITS",
    "VARINT",
    "field_at",
    "signed",
    "varint",
    "written_field",
    "written_varint",
]

VARINT: Final = 0
BYTES: Final = 2
_FIXED: Final = {1: 8, 5: 4}
"""Wire types of numbers with so many bytes."""
_SHORT: Final = tuple(bytes([number]) for number in range(0x80))
MOST_BITS: Final = 63
"""Of a number so many may come before its last byte."""
ALL_BITS: Final = 0xFFFFFFFFFFFFFFFF


def field_at(data: memoryview, position: int) -> tuple[int, int, int | memoryview, int]:
    """The field that begins there: its number, its wire type, its value, and where it ends.

    Raises:
        BadValue: it is damaged.
    """
    key, position = varint(data, position)
    wire = key & 7
    if wire == VARINT:
        number, position = varint(data, position)
        return key >> 3, wire, number, position
    if wire == BYTES:
        length, position = varint(data, position)
    elif wire in _FIXED:
        length = _FIXED[wire]
    else:
        raise BadValue(f"there is no wire type {wire}")
    end = position + length
    if end > len(data):
        raise BadValue(f"the value is cut off: {length} bytes at {position} of {len(data)}")
    return key >> 3, wire, data[position:end], end


def varint(data: memoryview | bytes, position: int) -> tuple[int, int]:
    """The number that begins there, without a sign, and where it ends.

    Raises:
        BadValue: it is cut off, or longer than a number may be.
    """
    try:
        result = data[position]
        if result < 0x80:  # most are
            return result, position + 1
        result, shift = result & 0x7F, 7
        while True:
            position += 1
            byte = data[position]
            if byte < 0x80:
                return (result | byte << shift) & ALL_BITS, position + 1
            result |= (byte & 0x7F) << shift
            shift += 7
            if shift > MOST_BITS:
                raise BadValue("a number is longer than 10 bytes")
    except IndexError:
        raise BadValue("the value is cut off in the middle of a number") from None


def signed(number: int) -> int:
    """The same number with its sign."""
    return number - (1 << 64) if number >= 1 << 63 else number


def written_varint(number: int) -> bytes:
    """The number as it is written, a negative one in 10 bytes."""
    if 0 <= number <= 0x7F:  # most are
        return _SHORT[number]
    rest = number & ALL_BITS
    found = bytearray()
    while rest > 0x7F:
        found.append(rest & 0x7F | 0x80)
        rest >>= 7
    found.append(rest)
    return bytes(found)


def written_field(number: int, value: int | bytes) -> bytes:
    """A field as it is written: a number as such, and bytes behind their length."""
    if isinstance(value, int):
        return written_varint(number << 3 | VARINT) + written_varint(value)
    return written_varint(number << 3 | BYTES) + written_varint(len(value)) + value
