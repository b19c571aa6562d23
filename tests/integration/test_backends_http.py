"""HTTP backends against a real server: what it is sent, what the model is told, and what never happens."""

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from tests.backend_builders import called, caller, declared, opened, served
from tests.backend_server import BackendServer, backend_server, reply
from tests.eventually import eventually
from workers.backend_types import Backend
from workers.backends.deployment import Surroundings, open_backends
from workers.errors import SettingsError


async def test_the_service_is_told_who_asks_and_gets_the_secret_and_the_key() -> None:
    async with served(reply('{"refunded": 5}')) as (server, refund):
        assert await called(refund, caller(user="ada@exämple"), amount=5) == '{"refunded": 5}'
    [sent] = server.received
    assert sent.line == "POST /orders/1042/refund HTTP/1.1"
    assert json.loads(sent.body) == {"amount": 5}
    assert sent.headers == {
        "host": f"127.0.0.1:{server.port}",
        "authorization": "Bearer s3cret-of-the-shop",
        "accept": "application/json, text/plain;q=0.5",
        "accept-encoding": "identity",
        "user-agent": "chatkit-workers",
        "x-chatkit-tenant": "acme",
        "x-chatkit-user": "ada@ex%C3%A4mple",
        "idempotency-key": "evt_1:0:call_1",
        "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        "content-type": "application/json",
        "content-length": "13",
    }


async def test_arguments_that_do_not_fit_never_leave_the_worker() -> None:
    async with served() as (server, refund):
        for arguments, said in (
            ('{"order": 7}', "order: 7 is not of type 'string'"),
            ('{"amount": 5}', "'order' is a required property"),
            ('{"order": "1", "amount": 0}', "amount: 0 is less than the minimum"),
            ('{"order": "1", "url": "http://evil"}', "'url' was unexpected"),
            ('{"order": "../admin"}', "order: it fills a place of a path"),
            ('{"order": "1", "amount": NaN}', "no JSON object"),
            ('["1"]', "no JSON object"),
            ("[" * 60_000, "no JSON object"),
            (json.dumps({"order": "x" * 70_000}), "more than 65536 bytes"),
        ):
            told = (await refund.call(arguments, caller())).text
            assert said in told
            assert "not called" in told.lower()
    assert server.received == []


async def test_without_parameters_there_are_no_arguments() -> None:
    async with backend_server() as server:
        plain = {"description": "d", "tenants": ["acme"], "http": {"url": f"{server.url}/now"}}
        async with opened(Backend.model_validate(plain)) as now:
            assert "'order' was unexpected" in await called(now)
            assert (await now.call("{}", caller())).text == '{"ok": true}'
            assert (await now.call("", caller())).text == '{"ok": true}'
    assert [sent.target for sent in server.received] == ["/now", "/now"]


async def test_arguments_that_make_the_url_too_long_are_refused() -> None:
    schema = {"type": "object", "properties": {"order": {"type": "string"}, "note": {"type": "string"}}}
    async with backend_server() as server:
        http = {"method": "GET", "url": f"{server.url}/orders"}
        async with opened(declared(server.url, http=http, parameters=schema)) as look:
            assert "the arguments make the URL too long" in await called(look, note=" " * 40_000)
    assert server.received == []


async def test_another_tenant_is_refused_before_anything_is_sent() -> None:
    async with served() as (server, refund):
        assert "not available here" in await called(refund, caller(tenant="umbrella"))
    assert server.received == []


async def test_a_redirect_is_not_followed() -> None:
    async with backend_server() as elsewhere:
        moved = reply("", status="302 Found", Location=f"{elsewhere.url}/admin")
        async with served(moved) as (server, refund):
            assert "points elsewhere" in await called(refund)
        assert len(server.received) == 1
        assert elsewhere.received == []


async def test_cookies_of_one_tenant_are_not_sent_for_the_next() -> None:
    answer = reply(Set_Cookie="session=acme; Path=/")
    both = {"tenants": ["acme", "umbrella"], "retry": "idempotent"}
    async with served(answer, **both) as (server, refund):
        await called(refund)
        await called(refund, caller(tenant="umbrella"))
    assert [sent.headers.get("cookie") for sent in server.received] == [None, None]


async def test_a_name_that_leads_to_the_metadata_service_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved: list[str] = []

    async def resolve(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        resolved.append(host)
        return [(2, 1, 6, "", ("169.254.169.254", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    async with opened(declared("https://shop.internal", retry="safe")) as refund:
        assert "could not be reached (RefusedAddressError)" in await called(refund)
    assert resolved == ["shop.internal"] * 3


async def test_localhost_that_is_another_machine_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(2, 1, 6, "", ("10.0.0.5", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    async with opened(declared("http://localhost:9")) as refund:
        assert "could not be reached (RefusedAddressError)" in await called(refund)


async def test_a_name_is_resolved_once_and_exactly_that_address_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["127.0.0.1", "169.254.169.254"])
    resolve = asyncio.get_running_loop().getaddrinfo

    async def rebinding(host: str, *rest: Any, **more: Any) -> Any:
        return [(2, 1, 6, "", (next(answers), 0))] if host == "localhost" else await resolve(host, *rest, **more)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", rebinding)
    async with backend_server() as server:
        named = declared(server.url.replace("127.0.0.1", "localhost"))
        async with opened(named) as refund:
            assert await called(refund) == '{"ok": true}'
        assert server.received[0].headers["host"] == f"localhost:{server.port}"


async def test_an_idempotent_call_is_made_again_with_the_same_key() -> None:
    failing = reply("{}", status="503 Service Unavailable")
    async with served(failing, hang_up, reply(), retry="idempotent") as (server, refund):
        assert await called(refund) == '{"ok": true}'
    assert [sent.headers["idempotency-key"] for sent in server.received] == ["evt_1:0:call_1"] * 3


@pytest.mark.parametrize("answer", [reply("{}", status="500 Oops"), "hang up", "silence"])
async def test_what_must_not_be_repeated_is_called_once_and_the_model_learns_that_nobody_knows(answer: object) -> None:
    first = {"hang up": hang_up, "silence": silence}.get(str(answer), answer)
    async with served(first, reply(), retry="never", timeout=0.3) as (server, refund):  # type: ignore[arg-type]  # one of three
        assert "may or may not have taken effect" in await called(refund)
    assert len(server.received) == 1


async def test_a_body_that_drips_is_cut_off_at_the_deadline() -> None:
    async with served(dripping, timeout=0.5) as (_server, refund):
        began = time.monotonic()
        assert "no answer within 0.5 s" in await called(refund)
        assert time.monotonic() - began < 2


async def test_a_result_is_cut_and_the_rest_is_not_read() -> None:
    async with served(endless, max_result_bytes=100) as (_server, refund):
        answer = await refund.call('{"order": "1"}', caller())
    assert answer.text == "x" * 100
    assert answer.is_cut


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (reply("<html>", kind="text/html"), "neither JSON nor plain text"),
        (reply("PK", kind="application/zip"), "neither JSON nor plain text"),
        (reply("zipped", Content_Encoding="gzip"), "neither JSON nor plain text"),
        (reply("", status="204 No Content", kind="text/html"), "Done; the service had nothing to say."),
        (reply('{"a": 1}', kind="application/hal+json; charset=utf-8"), '{"a": 1}'),
        (reply("plain", kind="text/plain"), "plain"),
        (reply('{"error": "not refundable"}', status="422 No"), 'HTTP 422 {"error": "not refundable"}'),
        (reply("<h1>no</h1>", status="404 No", kind="text/html"), "The service refused the call: HTTP 404"),
        (reply('{"token": "was s3cret"}', status="401 No"), "The service refused the call: HTTP 401"),
    ],
)
async def test_what_the_model_is_told_of_an_answer(answer: bytes, told: str) -> None:
    async with served(answer) as (server, refund):
        said = await called(refund)
    assert said.endswith(told) or told in said
    assert "s3cret" not in said
    assert len(server.received) == 1


async def test_a_service_that_asks_for_a_moment_gets_it() -> None:
    busy = reply("{}", status="429 Slow down", Retry_After="0")
    async with served(busy, reply(), retry="never") as (server, refund):
        assert await called(refund) == '{"ok": true}'
    assert len(server.received) == 2


async def test_a_long_wait_is_told_to_the_model() -> None:
    busy = reply("{}", status="429 Slow down", Retry_After="120")
    async with served(busy, retry="safe") as (server, refund):
        assert "it may be asked again in 120 s" in await called(refund)
    assert len(server.received) == 1


async def test_the_circuit_opens_and_one_call_finds_the_service_well_again() -> None:
    circuit = {"failures": 3, "open_seconds": 0.3}
    async with served(reply("{}", status="500 Oops"), retry="safe", circuit=circuit) as (server, refund):
        assert "did not answer (HTTP 500)" in await called(refund)
        began = time.monotonic()
        assert "is away at the moment and was not called" in await called(refund)
        assert time.monotonic() - began < 0.2
        assert len(server.received) == 3
        server.replies[:] = [reply()]

        async def is_well() -> bool:
            return await called(refund) == '{"ok": true}'

        await eventually(is_well)


async def test_a_refusal_does_not_open_the_circuit() -> None:
    circuit = {"failures": 1, "open_seconds": 60}
    async with served(reply("{}", status="404 No"), circuit=circuit) as (_server, refund):
        for _ in range(3):
            assert "HTTP 404" in await called(refund)


async def test_nothing_of_arguments_results_and_secrets_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with served(reply('{"said": "c4nary-result"}'), hang_up, retry="idempotent") as (_server, refund):
        await called(refund, order="c4nary-argument")
        await called(refund, order="c4nary-argument")
    lines = [str(vars(record)) for record in caplog.records]
    assert [record.outcome for record in caplog.records if record.msg == "backend_called"] == ["answered", "unanswered"]  # type: ignore[attr-defined]  # a field
    assert not [line for line in lines if "c4nary" in line or "s3cret" in line]


async def test_a_missing_variable_stops_the_start_with_one_line() -> None:
    with pytest.raises(SettingsError) as caught:
        async with open_backends({"refund": declared("https://shop")}, Surroundings({})):
            pass
    problem = "headers_from: the variable SHOP_TOKEN is not set (it holds the value of Authorization)"
    assert str(caught.value) == f"CHATKIT_BACKENDS: refund: {problem}"


async def test_a_secret_with_a_line_break_is_no_header() -> None:
    around = Surroundings({"SHOP_TOKEN": "s3cret\r\nX-Admin: 1"})
    with pytest.raises(SettingsError, match="SHOP_TOKEN holds what no header can") as caught:
        async with open_backends({"refund": declared("https://shop")}, around):
            pass
    assert "s3cret" not in str(caught.value)


async def test_many_calls_share_few_connections() -> None:
    connections = 0
    async with backend_server() as server:
        serve = BackendServer.serve

        async def counted(self: BackendServer, *streams: object) -> None:
            nonlocal connections
            connections += 1
            await serve(self, *streams)  # type: ignore[arg-type]  # passed on

        server.serve = counted.__get__(server)  # type: ignore[method-assign]  # counts
        async with opened(declared(server.url, retry="safe")) as refund:
            for _ in range(10):
                await called(refund)
    assert connections == 1


@pytest.mark.parametrize("over_http", [False, True])
async def test_an_operation_of_an_openapi_document_is_called(tmp_path: Path, over_http: bool) -> None:
    parameter = {"name": "order", "in": "path", "required": True, "schema": {"type": "string"}}
    body = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    refund = {"operationId": "refund", "parameters": [parameter], "requestBody": body}
    document = json.dumps({"openapi": "3.1.0", "paths": {"/v2/orders/{order}": {"post": refund}}})
    async with backend_server(reply(document), reply('{"ok": 1}')) as server:
        where = f"{server.url}/openapi.json" if over_http else str(tmp_path / "shop.json")
        (tmp_path / "shop.json").write_text(document)
        server.replies[:] = server.replies if over_http else server.replies[1:]
        openapi = {"document": where, "operation": "refund", **({} if over_http else {"server": server.url})}
        declaration = {"description": "d", "tenants": ["acme"], "openapi": openapi}
        async with opened(Backend.model_validate(declaration)) as backend:
            assert await called(backend, body={"amount": 5}) == '{"ok": 1}'
            assert "Not called" in await called(backend)
    sent = server.received[-1]
    assert (sent.target, json.loads(sent.body)) == ("/v2/orders/1042", {"amount": 5})


async def test_a_document_that_redirects_stops_the_start() -> None:
    async with backend_server(reply("", status="302 Found", Location="http://169.254.169.254/")) as server:
        openapi = {"document": f"{server.url}/openapi.json", "operation": "refund"}
        declaration = Backend.model_validate({"description": "d", "tenants": ["acme"], "openapi": openapi})
        with pytest.raises(SettingsError, match="CHATKIT_BACKENDS: refund_order: the document cannot be had"):
            async with opened(declaration):
                pass


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def dripping(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x" * 65536)
        await writer.drain()
