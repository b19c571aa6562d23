"""OpenAPI operations: what is understood, and what stops the start with a reason."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from workers.backend_types import OpenApiCall
from workers.backends.openapi import compiled, load_document

DOCUMENT: dict[str, Any] = {
    "openapi": "3.0.3",
    "servers": [{"url": "https://shop.internal/api/"}],
    "paths": {
        "/orders/{order-id}/refund": {
            "parameters": [{"$ref": "#/components/parameters/Order"}],
            "post": {
                "operationId": "refund",
                "parameters": [
                    {"name": "notify", "in": "query", "schema": {"type": "boolean"}, "description": "Tell the user."},
                    {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                ],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Refund"}}},
                },
            },
            "get": {"operationId": "look", "responses": {}},
        },
    },
    "components": {
        "parameters": {"Order": {"name": "order-id", "in": "path", "required": True, "schema": {"type": "string"}}},
        "schemas": {
            "Refund": {
                "type": "object",
                "required": ["amount"],
                "properties": {
                    "amount": {"type": "number", "minimum": 0, "exclusiveMinimum": True, "example": 5},
                    "note": {"type": "string", "nullable": True},
                    "lines": {"type": "array", "items": {"$ref": "#/components/schemas/Line"}},
                },
            },
            "Line": {"type": "object", "properties": {"sku": {"type": "string"}}},
        },
    },
}


def changed(**operation: Any) -> dict[str, Any]:
    document = json.loads(json.dumps(DOCUMENT))
    document["paths"]["/orders/{order-id}/refund"]["post"] |= operation
    return document  # type: ignore[no-any-return]  # as it was


def call(**changes: Any) -> OpenApiCall:
    return OpenApiCall.model_validate({"document": "shop.json", "operation": "refund", **changes})


def test_an_operation_becomes_a_request_with_places_and_a_schema() -> None:
    found = compiled(call(), DOCUMENT)
    assert found.parameters == {
        "type": "object",
        "properties": {
            "order-id": {"type": "string"},
            "notify": {"type": "boolean", "description": "Tell the user."},
            "body": {
                "type": "object",
                "required": ["amount"],
                "properties": {
                    "amount": {"type": "number", "exclusiveMinimum": 0},
                    "note": {"type": ["string", "null"]},
                    "lines": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}}}},
                },
            },
        },
        "required": ["order-id", "body"],
        "additionalProperties": False,
    }
    request = found.operation.request({"order-id": "a b", "notify": True, "body": {"amount": 5}}, {})
    assert (request.method, str(request.url)) == ("POST", "https://shop.internal/api/orders/a%20b/refund?notify=true")
    assert json.loads(request.content) == {"amount": 5}


def test_a_server_of_the_declaration_counts_instead_of_the_documents() -> None:
    found = compiled(call(operation="look", server="http://127.0.0.1:8"), DOCUMENT)
    assert str(found.operation.request({"order-id": "7"}, {}).url) == "http://127.0.0.1:8/orders/7/refund"


@pytest.mark.parametrize(
    ("changes", "document", "problem"),
    [
        ({"operation": "nothing"}, DOCUMENT, 'the document has no operation "nothing"'),
        ({}, DOCUMENT | {"servers": [{"url": "http://shop.internal"}]}, "shop.internal is not on this machine"),
        (
            {},
            DOCUMENT | {"servers": [{"url": "https://{region}.shop"}]},
            "places such as {order} may stand in its path",
        ),
        ({}, DOCUMENT | {"servers": [{"url": "/api"}]}, "the document names no server with a host"),
        ({}, DOCUMENT | {"servers": []}, "the document names no server with a host"),
        (
            {},
            changed(parameters=[{"name": "X-Key", "in": "header", "required": True}]),
            "its parameter X-Key goes into the header",
        ),
        ({}, changed(parameters=[{"name": "order-id", "in": "query"}]), "it has two parameters named order-id"),
        ({}, changed(requestBody={"required": True, "content": {"text/xml": {}}}), "its body is not JSON"),
        ({}, changed(requestBody={"$ref": "#/components/nothing"}), "leads to nothing"),
        ({}, changed(requestBody={"$ref": "https://evil/x.json"}), "it refers to another document"),
        ({}, changed(parameters=[{"in": "query"}]), "it has a parameter without a name"),
    ],
)
def test_what_cannot_be_called_is_said(changes: dict[str, Any], document: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        compiled(call(**changes), document)


def test_a_schema_that_refers_to_itself_is_refused() -> None:
    document = changed()
    document["components"]["schemas"]["Line"]["properties"]["parent"] = {"$ref": "#/components/schemas/Line"}
    with pytest.raises(ValueError, match="refers to itself"):
        compiled(call(), document)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("openapi: 3.0.0", "not JSON"),
        ('{"swagger": "2.0"}', "not OpenAPI 3"),
        ("[]", "not OpenAPI 3"),
        (None, "cannot be had"),
    ],
)
async def test_a_document_that_is_none_is_refused(tmp_path: Path, text: str | None, problem: str) -> None:
    path = tmp_path / "shop.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=problem):
        await load_document(str(path))
