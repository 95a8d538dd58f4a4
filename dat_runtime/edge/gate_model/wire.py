"""Protobuf's wire format, read strictly: whatever another reader could understand otherwise raises.

A message is a row of fields, each with its number and its kind of content. Readers of protobuf skip
what they do not know and merge what comes twice; here both are refused, so that what was checked is
what the model's own library will read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""The wire types that are read; groups (3, 4) are no longer written by anyone."""

MAX_ENTRIES = 100_000
"""Fields of one message; a gate's graph has a few thousand."""

MAX_NUMBERS = 4096
"""Packed numbers of one field: shapes, strides and the like, never weights."""

_SIGN, _WRAP = 1 << 63, 1 << 64


@dataclass(frozen=True)
class Field:
    """A field that a message may hold.

    Attributes:
        name: as the format's description has it.
        kind: its wire type.
        repeated: whether it may come more than once; its value is then a list.
    """

    name: str
    kind: int
    repeated: bool = False


Schema = Mapping[int, Field]


def read(data: memoryview, schema: Schema, where: str) -> dict[str, Any]:
    """The fields of a message by name: ints, memoryviews, and lists of the repeated ones.

    Raises:
        ValueError: says what in `where` is cut short, unknown, of another kind, or there twice.
    """
    values: dict[str, Any] = {}
    for field in schema.values():
        if field.repeated:
            values[field.name] = []
    at, entries = 0, 0
    while at < len(data):
        entries += 1
        if entries > MAX_ENTRIES:
            raise ValueError(f"{where} has more than {MAX_ENTRIES:,} fields")
        key, at = _varint(data, at, where)
        number, kind = key >> 3, key & 7
        field = schema.get(number)  # type: ignore[assignment]
        if field is None:
            raise ValueError(f"{where} has field {number}, which no gate needs")
        value, at = _content(data, at, kind, where)
        _keep(values, field, kind, value, where)
    return values


def _keep(values: dict[str, Any], field: Field, kind: int, value: Any, where: str) -> None:
    if field.repeated and kind == BYTES and field.kind == VARINT:
        values[field.name] += _packed(value, f"{where}.{field.name}")
    elif kind != field.kind:
        raise ValueError(f"{where}.{field.name} is of wire type {kind}, expected {field.kind}")
    elif field.repeated:
        values[field.name].append(value)
    elif field.name in values:
        raise ValueError(f"{where} states {field.name} twice")
    else:
        values[field.name] = value


def _content(data: memoryview, at: int, kind: int, where: str) -> tuple[Any, int]:
    if kind == VARINT:
        value, at = _varint(data, at, where)
        return (value - _WRAP if value >= _SIGN else value), at
    if kind == BYTES:
        length, at = _varint(data, at, where)
    elif kind in (FIXED32, FIXED64):
        length = 4 if kind == FIXED32 else 8
    else:
        raise ValueError(f"{where} has a field of wire type {kind}")
    if length > len(data) - at:
        raise ValueError(f"{where} is cut short")
    return data[at : at + length], at + length


def _varint(data: memoryview, at: int, where: str) -> tuple[int, int]:
    """An unsigned number of at most 64 bits, and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError(f"{where} is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= _WRAP:
                break
            return value, at
    raise ValueError(f"{where} holds a number of more than 64 bits")


def _packed(data: memoryview, where: str) -> list[int]:
    numbers: list[int] = []
    at = 0
    while at < len(data):
        if len(numbers) == MAX_NUMBERS:
            raise ValueError(f"{where} holds more than {MAX_NUMBERS:,} numbers")
        value, at = _content(data, at, VARINT, where)
        numbers.append(value)
    return numbers
