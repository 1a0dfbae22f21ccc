"""The shapes of everything that is encoded, in the words of docs/formats.md and docs/protocol.md."""

from typing import Any

import msgspec
from msgspec import inspect

Row = tuple[str, str]
"""A field's name and its type, as the pages write them."""


def number(value: int) -> str:
    """Write a bound as the pages do: powers where they are rounder than digits."""
    sign, size = ("-", -value) if value < 0 else ("", value)
    if size >= 10**6 and str(size).rstrip("0") == "1":
        return f"{sign}10^{len(str(size)) - 1}"
    if size >= 2**16 and size & (size - 1) == 0:
        return f"{sign}2^{size.bit_length() - 1}"
    if size >= 2**16 - 1 and size & (size + 1) == 0:
        return f"{sign}2^{size.bit_length()}-1"
    return f"{sign}{size}"


def span(low: int | None, high: int | None) -> str:
    """Write a pair of bounds."""
    if low is not None and low == high:
        return number(low)
    if high is None:
        return f"≥ {number(low or 0)}"
    return f"{number(low or 0)} to {number(high)}"


def shape(kind: inspect.Type) -> str:  # noqa: PLR0911 - a case for each type
    """Write a type as the pages do."""
    match kind:
        case inspect.UnionType(types=types):
            rest = [each for each in types if not isinstance(each, inspect.NoneType)]
            nil = " or nil" if len(rest) < len(types) else ""
            return " or ".join(map(shape, rest)) + nil
        case inspect.BytesType() | inspect.StrType():
            name = "bytes" if isinstance(kind, inspect.BytesType) else "text"
            bounded = kind.min_length is not None or kind.max_length is not None
            return f"{name} {span(kind.min_length, kind.max_length)}" if bounded else name
        case inspect.IntType():
            high = kind.le if kind.le is not None or kind.lt is None else kind.lt - 1
            return "int" if kind.ge is None and high is None else f"int {span(kind.ge, high)}"
        case inspect.BoolType():
            return "bool"
        case inspect.EnumType(cls=cls):
            values = [each.value for each in cls]
            if issubclass(cls, int):
                return f"int {', '.join(map(str, values))}"
            return f"text {', '.join(f'`{each}`' for each in values)}"
        case inspect.StructType(cls=cls):
            return f"{cls.__name__.lstrip('_')}"
        case inspect.VarTupleType() | inspect.ListType():
            bounds = f"{span(kind.min_length, kind.max_length)} " if kind.max_length is not None else ""
            item = shape(kind.item_type)
            return f"array of {bounds}{item if item.isalpha() else f'({item})'}"
        case inspect.TupleType(item_types=types):
            return f"[{', '.join(map(shape, types))}]"
    raise TypeError(f"no words for {kind}")


def of(kind: Any) -> str:
    """Write any type as the pages do."""
    return shape(inspect.type_info(kind))


def rows(struct: type[msgspec.Struct]) -> list[Row]:
    """Return the fields of a positional struct in the order in which they are encoded."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    assert info.array_like
    return [(field.name, shape(field.type)) for field in info.fields]
