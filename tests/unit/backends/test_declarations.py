"""`CHATKIT_BACKENDS`: what is wrong in it stops the start with one line that names it."""

import json
from typing import Any

import pytest

from workers.backend_types import BACKENDS_FORM
from workers.errors import SettingsError
from workers.settings import load_settings

SCHEMA = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}
GOOD: dict[str, Any] = {
    "description": "Refund an order.",
    "http": {"method": "POST", "url": "https://shop.internal/orders/{order}/refund"},
    "parameters": SCHEMA,
    "tenants": ["acme"],
}


def refusal(monkeypatch: pytest.MonkeyPatch, name: str = "refund", **changes: Any) -> str:
    monkeypatch.setenv("CHATKIT_BACKENDS", json.dumps({name: GOOD | changes}))
    with pytest.raises(SettingsError) as caught:
        load_settings()
    line = str(caught.value)
    assert "\n" not in line
    assert line.endswith(f": use {BACKENDS_FORM}")
    return line.removesuffix(f": use {BACKENDS_FORM}")


def http(**changes: Any) -> dict[str, Any]:
    return {"http": GOOD["http"] | changes}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            http(url="http://shop.internal/{order}"),
            "http.url: shop.internal is not on this machine, so its scheme must",
        ),
        (http(url="ftp://shop.internal/{order}"), "http.url: not a URL with https:// and a host"),
        (http(url="https:///{order}"), "http.url: not a URL with https:// and a host"),
        (http(url="https://u:p4ss@shop/{order}"), "http.url: no user or password may stand in it"),
        (http(url="https://{order}/x"), "http.url: places such as {order} may stand in its path alone"),
        (http(url="https://shop/x?id={order}"), "http.url: places such as {order} may stand in its path alone"),
        (http(url="https://shop:99999/{order}"), "http.url: its host and port cannot be read"),
        (http(url="https://shop/{order} x"), "http.url: no fragment, white space or backslash"),
        (http(url="https://shop/{number}"), '"number" of the URL or the query is not among the properties'),
        (http(query=["page"]), '"page" of the URL or the query is not among the properties'),
        (http(headers_from={"Host": "X"}), "http.headers_from: host is set for every call"),
        (http(headers_from={"Authorization": "Bearer s3cret"}), "http.headers_from.Authorization: string should match"),
        (http(method="TRACE"), "http.method: input should be"),
        ({"parameters": {"type": "string"}}, 'parameters: the schema must be that of an object: "type": "object"'),
        ({"parameters": {"type": "object", "properties": 3}}, "parameters: no JSON schema (properties: "),
        (
            {"parameters": {**SCHEMA, "required": []}},
            '"order" fills a place of the URL, so it must be among "required"',
        ),
        ({"task": {"name": "a", "queue": "b"}}, "give exactly one of http, openapi, task and mcp"),
        (
            {"http": None, "task": {"name": "a", "queue": "chatkit.events"}},
            "task.queue: queues that begin with chatkit.",
        ),
        ({"http": None, "mcp": {"tools": ["a"]}}, "mcp: give either url or command"),
        ({"http": None, "mcp": {"url": "http://h/mcp", "tools": ["a"]}}, "mcp.url: h is not on this machine"),
        (
            {"http": None, "mcp": {"url": "https://h/mcp", "tools": ["a"]}},
            "parameters: an OpenAPI operation and an MCP",
        ),
        ({"retry": "always"}, "retry: input should be 'safe', 'idempotent' or 'never'"),
        ({"timeout": 0}, "timeout: input should be greater than 0"),
        ({"tenants": []}, "tenants: tuple should have at least 1 item"),
        ({"retries": 3}, "retries: extra inputs are not permitted"),
    ],
)
def test_a_wrong_declaration_is_one_line(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], line: str) -> None:
    said = refusal(monkeypatch, **changes)
    assert said.startswith("CHATKIT_BACKENDS: refund")
    assert line in said
    assert "s3cret" not in said
    assert "p4ss" not in said


def test_a_name_that_is_no_tool_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Refund Order" in refusal(monkeypatch, name="Refund Order")


def test_a_plain_declaration_forbids_what_it_does_not_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_BACKENDS", json.dumps({"refund": GOOD}))
    refund = load_settings().backends["refund"]
    assert refund.parameters["additionalProperties"] is False
    assert (refund.retry, refund.approval, refund.timeout, refund.max_result_bytes) == ("never", False, 10, 8192)
    assert refund.serves("acme")
    assert not refund.serves("other")


@pytest.mark.parametrize("url", ["http://localhost:1/x", "http://127.0.0.1/x", "http://[::1]:8/x"])
def test_on_this_machine_plain_http_will_do(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    declaration = {**GOOD, **http(url=url)}
    monkeypatch.setenv("CHATKIT_BACKENDS", json.dumps({"refund": declaration}))
    assert load_settings().backends["refund"].http is not None
