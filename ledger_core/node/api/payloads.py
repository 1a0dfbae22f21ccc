"""Schemas of what depends on a kind: the `body` of a record, and the `data` of an event.

They are made from the ledger's own structs, as `plain` shows them: bytes are hexadecimal, structs are objects
with every field.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct, inspect

from ledger_core.node.engine.outputs import BlockConnected, BlockDisconnected, NodeEvent
from ledger_core.records.codec import kinds
from ledger_core.rules.events import Event

_BRANCH_EVENTS: Final = {
    "block_connected": "A block joined the active branch; what it did follows, event by event.",
    "block_undone": "A block left the active branch: what it did is undone.",
    "snapshot_adopted": "The chain goes on from a snapshot; what led to it was not told.",
    "log_started": "The first event of all.",
    "resync": "Events are missing here: read anew what is needed.",
}
_BLOCK: Final = {
    "type": "object",
    "properties": {
        "height": {"type": "integer", "minimum": 0},
        "hash": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    },
    "required": ["height", "hash"],
    "additionalProperties": False,
}
_REF: Final = "#/components/schemas/"


class PayloadSchemas:
    """Makes the schemas by kind, and gathers those that they refer to."""

    def __init__(self) -> None:
        self.components: dict[str, Any] = {"BlockFields": _BLOCK}

    def by_kind(self, view: dict[str, Any], tag: str, payload: str) -> dict[str, Any]:
        """Return the schema of a view whose field `payload` depends on its field `tag`.

        `view` is the schema of the view as it is for every kind.
        """
        found = self._records() if payload == "body" else self._events()
        choices = []
        for name, (description, schema) in sorted(found.items()):
            properties = {**view["properties"], tag: {"const": name}, payload: schema}
            choices.append({**view, "title": name, "description": description, "properties": properties})
        return {"description": view.get("description", ""), "oneOf": choices}

    def _records(self) -> dict[str, tuple[str, dict[str, Any]]]:
        return {kind.KIND: (_about(kind), self._struct(kind)) for kind in kinds()}

    def _events(self) -> dict[str, tuple[str, dict[str, Any]]]:
        block = {"$ref": f"{_REF}BlockFields"}
        found = {name: (about, block) for name, about in _BRANCH_EVENTS.items()}
        for kind in _event_kinds():
            found.setdefault(str(kind.__struct_config__.tag), (_about(kind), self._struct(kind)))
        return found

    def _struct(self, kind: type[Struct]) -> dict[str, Any]:
        """Return the reference to a struct's schema, which is made if it is not there yet."""
        name = f"{kind.__name__}Fields"
        if name not in self.components:
            self.components[name] = {}  # a struct may refer to itself
            info = inspect.type_info(kind)
            assert isinstance(info, inspect.StructType)  # noqa: S101 - tells the type checker
            self.components[name] = {
                "description": _about(kind),
                "type": "object",
                "properties": {field.name: self._type(field.type) for field in info.fields},
                "required": [field.name for field in info.fields],
                "additionalProperties": False,
            }
        return {"$ref": f"{_REF}{name}"}

    def _type(self, info: inspect.Type) -> dict[str, Any]:  # noqa: PLR0911 - a table of types
        match info:
            case inspect.Metadata():
                return self._type(info.type)
            case inspect.StructType():
                return self._struct(info.cls)
            case inspect.BytesType():
                return {"type": "string", "pattern": _hexadecimal(info)}
            case inspect.IntType():
                return {"type": "integer", **_given(minimum=info.ge, maximum=info.le)}
            case inspect.StrType():
                return {"type": "string", **_given(maxLength=info.max_length)}
            case inspect.EnumType():
                return {"enum": [each.value for each in info.cls]}
            case inspect.BoolType():
                return {"type": "boolean"}
            case inspect.NoneType():
                return {"type": "null"}
            case inspect.UnionType():
                return {"anyOf": [self._type(each) for each in info.types]}
            case inspect.VarTupleType() | inspect.ListType():
                limits = _given(minItems=info.min_length, maxItems=info.max_length)
                return {"type": "array", "items": self._type(info.item_type), **limits}
            case inspect.DictType():
                return {"type": "object"}
            case _:
                raise TypeError(f"no schema for {info}")


def _event_kinds() -> Iterable[type[Struct]]:
    steps = (BlockConnected, BlockDisconnected)
    return (kind for kind in (*Event.__subclasses__(), *NodeEvent.__subclasses__()) if kind not in steps)


def _about(kind: type[Struct]) -> str:
    return " ".join((kind.__doc__ or "").split())


def _hexadecimal(info: inspect.BytesType) -> str:
    least = 0 if info.min_length is None else info.min_length * 2
    if info.min_length is not None and info.min_length == info.max_length:
        return f"^[0-9a-f]{{{least}}}$"
    most = "" if info.max_length is None else info.max_length * 2
    return f"^[0-9a-f]{{{least},{most}}}$"


def _given(**limits: int | None) -> dict[str, int]:
    return {name: limit for name, limit in limits.items() if limit is not None}
