"""Every endpoint, for whoever it is not meant for; and addresses and headers that try to be something else."""

import httpx
import pytest

from schemas.records import PageState
from tests.unit.gateway.stage import SERVICE, Stage, create_request, message_request, raw_event

STRANGERS = [("u2", "acme"), ("u1", "umbrella")]
OWNED = {
    "GET /v1/events/{event_id}",
    "GET /v1/events/{event_id}/stream",
    "POST /v1/events/{event_id}/cancel",
    "GET /v1/threads/{thread_id}/events",
    "GET /v1/sessions/{session_id}",
    "GET /v1/threads/{thread_id}/stream",
    "DELETE /v1/sessions/{session_id}",
}
FOR_SERVICES = {
    "GET /v1/dead",
    "GET /v1/dead/{letter_id}",
    "POST /v1/dead/{letter_id}/redrive",
    "POST /v1/sessions",
    "GET /v1/scale",
}
ELSEWHERE = {"POST /chatkit", "POST /v1/events", "POST /v1/sessions/refresh"}
"""Tried below, or in the tests of their own."""
OPEN = {"GET /healthz", "GET /readyz", "GET /metrics", "GET /chatkit-workers.js", "POST /playground/session", "GET /"}


def endpoints(stage: Stage) -> set[str]:
    paths = stage.app().openapi()["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def test_every_endpoint_is_tried_as_a_stranger(stage: Stage) -> None:
    assert endpoints(stage) - OWNED - FOR_SERVICES - ELSEWHERE - OPEN == set()


@pytest.mark.parametrize(("user", "tenant"), STRANGERS)
async def test_what_belongs_to_somebody_else_is_not_there(
    client: httpx.AsyncClient, stage: Stage, user: str, tenant: str
) -> None:
    stage.waker.asleep = True
    made = (await client.post("/v1/events", json=raw_event(), headers=SERVICE)).json()
    session = (await client.post("/v1/sessions", json={"user": "u1", "tenant": "acme"}, headers=SERVICE)).json()
    said = PageState(session_id=session["session_id"], tenant="acme", user="u1", ready=True, last_event="ready")
    stage.pages.states["acme", said.session_id] = said
    names = {"event_id": made["id"], "thread_id": made["thread_id"], "session_id": session["session_id"]}
    stranger, owner = stage.bearer(user, tenant), stage.bearer("u1", "acme")
    for endpoint in sorted(OWNED):
        method, path = endpoint.split(" ")
        answer = await client.request(method, path.format(**names), headers=stranger)
        if endpoint == "GET /v1/threads/{thread_id}/events":
            assert (answer.status_code, answer.json()) == (200, []), endpoint
        else:
            assert answer.status_code == 404, endpoint
            assert made["id"] not in answer.text
    stage.reads.owners[made["thread_id"]] = "acme/u1"
    answer = await client.post("/chatkit", json=message_request(made["thread_id"]), headers=stranger)
    assert answer.status_code == 404
    status = (await client.get(f"/v1/events/{made['id']}", headers=owner)).json()
    assert status["state"] == "queued"  # nothing of all that has touched it


@pytest.mark.parametrize("endpoint", sorted(FOR_SERVICES))
async def test_what_is_for_services_takes_no_client_secret(
    client: httpx.AsyncClient, stage: Stage, endpoint: str
) -> None:
    method, path = endpoint.split(" ")
    for headers in (stage.bearer(), {}):
        answer = await client.request(method, path.format(letter_id="evt_x"), json={"user": "root"}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/events/../dead",
        "/v1/events/%2e%2e/dead",
        "/v1/events/..%2fdead",
        "/v1//dead",
        "/v1/dead/",
        "/V1/dead",
        "/v1/events/evt_x%00",
        "/v1/events/evt_x%0d%0aX-Evil:%201",
        "/v1/events/" + "x" * 5000,
        "/v1/threads/%2e%2e%2f%2e%2e/events",
        "/v1/threads/%2e%2e%2f%2e%2e/stream",
        "/chatkit-workers.js/../../settings.py",
        "/chatkit-workers.js%2f..%2fapp.py",
        "//evil.example/%2f..",
    ],
)
async def test_an_address_that_tries_to_be_another_gives_nothing_away(
    client: httpx.AsyncClient, stage: Stage, path: str
) -> None:
    answer = await client.get(path, headers=stage.bearer(), follow_redirects=False)
    assert answer.status_code in (307, 400, 401, 404) or answer.json() == [], answer.text
    if answer.status_code == 307:
        assert answer.headers["location"].startswith("http://localhost/")
    assert "x-evil" not in answer.headers
    assert "BaseSettings" not in answer.text


@pytest.mark.parametrize("value", ["a\tb", "x" * 2000, "ключ".encode(), b"\xff\xfe", "evt\u0085X"])
async def test_headers_that_try_to_be_more_are_refused_or_taken_as_they_are(
    client: httpx.AsyncClient, stage: Stage, value: str | bytes
) -> None:
    raw = value if isinstance(value, bytes) else value.encode("latin-1")
    for name in (b"Idempotency-Key", b"Last-Event-ID", b"traceparent"):
        headers = [(b"Authorization", stage.bearer()["Authorization"].encode()), (name, raw)]
        answer = await client.post("/chatkit", json=create_request(), headers=headers)
        assert answer.status_code in (200, 400), (name, answer.text)
        assert all("\n" not in found and "\r" not in found for found in answer.headers.values())
