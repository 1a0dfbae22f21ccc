"""Structs of the ledger as JSON: bytes as hexadecimal, structs as objects."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from msgspec import Struct

_AS_IT_IS = frozenset({int, str, bool, float, type(None)})


def plain(value: Any) -> Any:
    """Return a value of the ledger as JSON can hold it."""
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    if kind is bytes:
        return value.hex()
    match value:
        case Struct():
            return fields(value)
        case Enum():
            return value.value
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case tuple() | list():
            return [plain(each) for each in value]
        case _:
            return value


def fields(struct: Struct) -> dict[str, Any]:
    """Return a struct's fields by name."""
    return {name: plain(getattr(struct, name)) for name in struct.__struct_fields__}
