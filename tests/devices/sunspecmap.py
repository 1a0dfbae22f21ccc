"""SunSpec maps for tests, laid out by pysunspec2's own definitions and encoders, not by ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sunspec2 import mb
from sunspec2.device import get_model_def

from custom_components.energy_ledger.devices.errors import ExceptionReply

if TYPE_CHECKING:
    from collections.abc import Sequence


def model(model_id: int, /, modules: Sequence[dict[str, Any]] = (), **values: Any) -> list[int]:
    """Registers of one model with raw `values`; every other point is "not implemented"."""
    top = get_model_def(model_id)["group"]
    data = _points(top["points"], values)
    for group in top.get("groups", []):
        for part in modules if "count" in group else [{}]:
            data += _points(group["points"], part)
    words = [int.from_bytes(data[n : n + 2], "big") for n in range(0, len(data), 2)]
    words[0], words[1] = model_id, len(words) - 2
    return words


def _points(points: Sequence[dict[str, Any]], values: dict[str, Any]) -> bytes:
    data = b""
    for point in points:
        size = 2 * int(point["size"])
        if point["name"] in values:
            encoded: bytes = mb.point_type_info[point["type"]].to_data(values[point["name"]], size)
        elif point["type"] == "pad":
            encoded = b"\x80\x00"
        else:
            encoded = mb.create_unimpl_value(point["type"], len=size)
        data += encoded
    return data


def common(manufacturer: str, name: str, serial: str = "12345678") -> list[int]:
    """Registers of the common model."""
    return model(1, Mn=manufacturer, Md=name, Opt="", Vr="1.0", SN=serial, DA=1)


class MapUnit:
    """A unit that holds a SunSpec map and refuses everything else; remembers what was read and written."""

    def __init__(self, base: int, models: Sequence[Sequence[int]], *, end: bool = True) -> None:
        words = [0x5375, 0x6E53] if models else []
        for part in models:
            words += part
        if end and models:
            words += [0xFFFF, 0]
        self.registers = {base + n: word for n, word in enumerate(words)}
        self.functions: set[int] = set()

    async def read(self, function: int, address: int, count: int) -> list[int]:
        self.functions.add(function)
        try:
            return [self.registers[n] for n in range(address, address + count)]
        except KeyError:
            raise ExceptionReply("map", function, address, count, 2) from None
