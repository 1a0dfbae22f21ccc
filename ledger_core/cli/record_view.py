"""A record as people read it: fields by name, keys as addresses, other bytes as hexadecimal."""

import annotationlib
import re
from enum import Enum, IntEnum
from typing import Any

from msgspec import Struct

from ledger_core.keys import address, verify
from ledger_core.records.codec import Record, record_message
from ledger_core.records.types import Role

# The types `Key` and `Hash` are the same bytes: only the annotation as it was written tells them apart.
_KEY = re.compile(r"\bKey\b")
_ROLES = re.compile(r"\bRoles\b")


def view_record(record: Record, chain_id: bytes | None) -> dict[str, Any]:
    """Return a record as JSON-friendly data; the id and the verdicts need the chain's id."""
    envelope, body = record.envelope, record.body
    signed = [(body.author, envelope.signature), *((co.key, co.signature) for co in envelope.cosignatures)]
    message = None if chain_id is None else record_message(chain_id, envelope.body)
    return {
        "kind": body.KIND,
        "id": None if chain_id is None else record.id.hex(),
        "author": address(body.author),
        "body": view_struct(body),
        "signatures": [
            {
                "by": address(key),
                "signature": signature.hex(),
                "valid": None if message is None else verify(key, message, signature),
            }
            for key, signature in signed
        ],
    }


def view_struct(value: Struct) -> dict[str, Any]:
    """Return a struct of the records' types as JSON-friendly data, field by field."""
    written = _annotations(type(value))
    return {name: _view(getattr(value, name), written[name]) for name in value.__struct_fields__}


def _view(value: Any, annotation: str) -> Any:
    if isinstance(value, bytes):
        return address(value) if _KEY.search(annotation) else value.hex()
    if isinstance(value, Struct):
        return view_struct(value)
    if isinstance(value, tuple):
        return [_view(each, annotation) for each in value]
    if _ROLES.search(annotation):
        return role_names(value)
    if isinstance(value, IntEnum):
        return value.name.lower()
    return value.value if isinstance(value, Enum) else value


def role_names(roles: int) -> list[str]:
    """Return the names of the roles that a number adds up."""
    return [role.name.lower() for role in Role if roles & role and role.name]


def _annotations(struct: type[Struct]) -> dict[str, str]:
    written: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        written |= annotationlib.get_annotations(base, format=annotationlib.Format.STRING)
    return written
