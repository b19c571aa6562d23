"""Sessions, health, playground, unknown paths."""

import asyncio
import re
from dataclasses import dataclass
from datetime import timedelta

import httpx
import pytest

from schemas.asyncapi import asyncapi_document
from schemas.outcome import Done
from tests.unit.gateway.stage import SERVICE, Stage, calling
from workers.gateway import health
from workers.gateway.health import Readiness
from workers.lanes.records import Settlement
from workers.policies.delivery import Lease
from workers.sessions.tokens import Identity


async def test_a_service_gets_a_client_secret_for_a_user(client: httpx.AsyncClient, stage: Stage) -> None:
    answer = await client.post("/v1/sessions", json={"user": "u7", "tenant": "acme"}, headers=SERVICE)
    assert answer.status_code == 200
    session = answer.json()
    assert set(session) == {"client_secret", "expires_at", "session_id", "refresh_token"}
    assert stage.verifier.verify(session["client_secret"]) == Identity("acme", "u7", session["session_id"])


@pytest.mark.parametrize(
    ("body", "field"), [({}, "user"), ({"user": "a/b"}, "user"), ({"user": "u", "role": "x"}, "role"), ([], "body")]
)
async def test_a_wrong_session_request_names_the_field(client: httpx.AsyncClient, body: object, field: str) -> None:
    answer = await client.post("/v1/sessions", json=body, headers=SERVICE)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_a_user_cannot_make_sessions(client: httpx.AsyncClient, stage: Stage) -> None:
    answer = await client.post("/v1/sessions", json={"user": "root"}, headers=stage.bearer())
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


def test_what_asyncapi_promises_of_the_gateway_is_a_path_of_it(stage: Stage) -> None:
    channels = asyncapi_document()["channels"].values()
    promised = {channel["address"] for channel in channels if {"$ref": "#/servers/gateway"} in channel["servers"]}
    paths = {re.sub(r"\{\w+\}", "{id}", path) for path in stage.app().openapi()["paths"]}
    assert promised
    assert promised <= paths


async def test_liveness_asks_nobody(client: httpx.AsyncClient) -> None:
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@dataclass
class Part:
    """A part that answers, fails or hangs."""

    failure: Exception | None = None
    hangs: bool = False
    asked: int = 0

    async def __call__(self) -> None:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        if self.hangs:
            await asyncio.Event().wait()


async def test_readiness_names_the_part_that_is_away_and_waits_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROBE", timedelta(seconds=0.05))
    parts = {"state": Part(), "broker": Part(hangs=True), "database": Part(ConnectionError("secret"))}
    answers = await Readiness(parts).parts()
    assert answers == {"state": "ok", "broker": "TimeoutError", "database": "ConnectionError"}


async def test_many_readiness_requests_at_once_ask_each_part_once() -> None:
    part = Part()
    readiness = Readiness({"state": part})
    answers = await asyncio.gather(*(readiness.parts() for _ in range(50)))
    assert answers == [{"state": "ok"}] * 50
    assert part.asked == 1


async def test_readiness_without_a_broker_is_a_503(stage: Stage) -> None:
    stage.settings = stage.settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"})
    async with calling(stage) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["status"] == "unavailable"
    assert (answer.json()["state"], answer.json()["database"]) == ("ok", "ok")
    assert answer.json()["broker"] != "ok"


async def test_metrics_are_in_the_format_of_prometheus(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "# TYPE" in answer.text


async def test_metrics_tell_what_the_state_knows_of_the_deployment(client: httpx.AsyncClient, stage: Stage) -> None:
    await stage.lanes.settle([Settlement(Lease("public/x", "evt_x", "a stale worker", "t", 1), Done())])
    text = (await client.get("/metrics")).text
    assert "chatkit_fenced_writes_total 1.0\n" in text
    assert 'chatkit_events_waiting{state="queued"} 0.0\n' in text
    assert "chatkit_worker_capacity 0.0\n" in text  # no worker has told of any
    assert "chatkit_streams_open 0.0\n" in text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nope", 404), ("GET", "/chatkit", 405)])
async def test_routing_errors_are_problems_too(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_the_interface_is_described(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert {"/chatkit", "/v1/events", "/v1/events/{event_id}/stream", "/v1/sessions"} <= set(document["paths"])
    assert (await client.get("/docs")).status_code == 200


async def test_the_playground_is_one_page_that_loads_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "script-src 'self'; style-src 'self'" in answer.headers["Content-Security-Policy"]
    parts = re.findall(r'(?:src|href)="(/[^"]+)"', answer.text)
    assert parts == ["/playground/style.css", "/playground/main.js"]
    for path in parts:
        part = await client.get(path)
        assert part.status_code == 200
        assert part.headers["X-Content-Type-Options"] == "nosniff"
        assert "http://" not in part.text + answer.text
        assert "https://" not in part.text + answer.text


async def test_every_script_of_the_playground_is_served_and_never_parses_what_others_wrote(
    client: httpx.AsyncClient,
) -> None:
    found, wanted = dict[str, str](), ["main.js"]
    while wanted:
        name = wanted.pop()
        answer = await client.get(f"/playground/{name}")
        assert answer.headers["Content-Type"].startswith("text/javascript")
        found[name] = answer.text
        wanted += set(re.findall(r'from "\./([a-z]+\.js)"', answer.text)) - found.keys()
    assert len(found) > 5
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert not [name for name, text in found.items() if forbidden in text]


@pytest.mark.parametrize("name", ["index.html", "nothing.js", "..%2Fplayground.py", "__init__.py"])
async def test_nothing_else_is_served_beside_the_playground(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/playground/{name}")).status_code == 404


async def test_a_gateway_that_no_stack_has_started_kills_no_worker(client: httpx.AsyncClient) -> None:
    session = (await client.post("/playground/session", json={})).json()
    assert session["can_break"] is False
    bearer = {"Authorization": f"Bearer {session['client_secret']}"}
    assert (await client.post("/playground/kill/evt_x", headers=bearer)).status_code == 404


async def test_a_guest_of_the_playground_stays_the_same_over_a_reload(client: httpx.AsyncClient, stage: Stage) -> None:
    first = (await client.post("/playground/session", json={})).json()
    again = (await client.post("/playground/session", json={"user": first["user"]})).json()
    assert again["user"] == first["user"]
    identity = stage.verifier.verify(again["client_secret"])
    assert (identity.tenant, identity.user) == ("playground", first["user"])


@pytest.mark.parametrize("user", ["root", "guest-1", "guest-0123456789abcdef\n", 7])
async def test_the_playground_speaks_for_guests_only(client: httpx.AsyncClient, user: object) -> None:
    answer = await client.post("/playground/session", json={"user": user})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "gateway.internal"},
        {"Host": "a`b.evil.example", "Origin": "http://a`b.evil.example"},
        {"Host": "127.0.0.1@evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"X-Forwarded-For": "203.0.113.7"},
        {"Forwarded": "for=203.0.113.7"},
    ],
)
async def test_the_playground_serves_only_pages_of_this_machine(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await client.post("/playground/session", json={}, headers=headers)
    assert answer.status_code == 403


async def test_the_playground_serves_no_other_machine(stage: Stage) -> None:
    app = stage.app()
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, client=("203.0.113.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.post("/playground/session", json={})).status_code == 403


async def test_the_playground_can_be_switched_off(stage: Stage) -> None:
    stage.settings = stage.settings.model_copy(update={"playground": False})
    async with calling(stage) as client:
        assert (await client.get("/")).status_code == 404
        assert (await client.post("/playground/session", json={})).status_code == 404
