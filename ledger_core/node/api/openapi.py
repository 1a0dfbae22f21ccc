"""The OpenAPI 3.1 document, made of the table of routes."""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from ledger_core import __version__
from ledger_core.node.api import model, queries
from ledger_core.node.api.payloads import PayloadSchemas
from ledger_core.node.api.routes import ROUTES, STREAM_PATH, Route

_REF = "#/components/schemas/{name}"


def document() -> dict[str, Any]:
    """Return the document."""
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    paths[STREAM_PATH] = {"get": _stream(schemas)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Energy Ledger node",
            "version": __version__,
            "description": (
                "Units: W, Wh, UTC seconds, micro-currency, prices in micro-currency per kWh (per kW and "
                "hour for capacity). Keys, ids and hashes are lower-case hexadecimal. "
                "Bodies are taken as they are: one with a Content-Encoding is refused (415)."
            ),
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas.components(),
        },
    }


class _Schemas:
    """The schemas of everything that is sent or taken."""

    def __init__(self) -> None:
        types: list[type[Struct]] = [model.Problem]
        for route in ROUTES:
            types += [route.answer, route.path_type, route.query_type]
            if route.body_type is not None:
                types.append(route.body_type)
        types.append(queries.StreamQuery)
        self._types = list(dict.fromkeys(types))
        found, self._components = msgspec.json.schema_components(self._types, ref_template=_REF)
        self._references = dict(zip(self._types, found, strict=True))
        hidden: list[type[Struct]] = [queries.StreamQuery]
        for route in ROUTES:
            hidden += [route.path_type, route.query_type]
        self._hidden = {kind.__name__ for kind in hidden}
        payloads = PayloadSchemas()
        for view, tag, payload in ((model.RecordView, "kind", "body"), (model.EventView, "event", "data")):
            name = view.__name__
            self._components[name] = payloads.by_kind(self._components[name], tag, payload)
        self._components |= payloads.components

    def reference(self, kind: type[Struct]) -> dict[str, Any]:
        """Return the reference to a type's schema."""
        return self._references[kind]

    def parameters(self, kind: type[Struct], place: str) -> list[dict[str, Any]]:
        """Return a type's fields as parameters."""
        schema = self._components[kind.__name__]
        required = schema.get("required", [])
        return [
            _parameter(name, place, field, required=name in required)
            for name, field in schema["properties"].items()
        ]

    def components(self) -> dict[str, Any]:
        """Return the schemas by name, without those that only hold parameters."""
        return {name: schema for name, schema in self._components.items() if name not in self._hidden}


def _parameter(name: str, place: str, field: dict[str, Any], *, required: bool) -> dict[str, Any]:
    schema = {key: value for key, value in field.items() if key != "description"}
    choices = [choice for choice in schema.pop("anyOf", ()) if choice != {"type": "null"}]
    if schema.get("default", 0) is None:
        del schema["default"]
    if len(choices) == 1:
        schema = {**choices[0], **schema}
    description = field.get("description") or schema.pop("description", None)
    parameter: dict[str, Any] = {"name": name, "in": place, "required": required, "schema": schema}
    return {**parameter, "description": description} if description else parameter


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "summary": route.summary,
        "parameters": [
            *schemas.parameters(route.path_type, "path"),
            *schemas.parameters(route.query_type, "query"),
        ],
        "responses": {
            str(route.status): _response(route.summary, schemas.reference(route.answer)),
            **_refusals(schemas, ("4XX", "5XX")),
        },
    }
    if route.body_type is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas.reference(route.body_type)}},
        }
    return operation


def _stream(schemas: _Schemas) -> dict[str, Any]:
    return {
        "operationId": "stream",
        "summary": "Events as they happen, over a WebSocket",
        "description": (
            "Every message is one JSON object of the schema Events; the first one comes at once. A client "
            "that was away goes on with the cursor of the last message. Events of a block that left the "
            "chain are followed by block_undone; after resync, or where the cursor is refused (410), the "
            "client reads the state anew."
        ),
        "parameters": schemas.parameters(queries.StreamQuery, "query"),
        "responses": {"101": {"description": "Events follow"}, **_refusals(schemas, ("4XX", "5XX"))},
    }


def _refusals(schemas: _Schemas, statuses: Iterable[str]) -> dict[str, Any]:
    return {status: _response("Refused", schemas.reference(model.Problem)) for status in statuses}


def _response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
