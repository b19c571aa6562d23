"""`/v1/sessions`: made for a user that a service vouches for, refreshed by the page, ended by either."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fakeredis import FakeAsyncRedis

from schemas.events import parse_event
from schemas.records import PageState
from tests.unit.gateway.conftest import beat
from tests.unit.gateway.stage import SERVICE, Stage, calling, create_request, stage_on
from workers.gateway.cookies import CSRF_HEADER, NAME
from workers.lanes.records import Owner
from workers.sessions.ids import new_session_id
from workers.sessions.tokens import Identity

PAGE = "https://app.example"
FROM_PAGE = {"Origin": PAGE, CSRF_HEADER: "1"}
REFRESH = "/v1/sessions/refresh"


async def sign_in(client: httpx.AsyncClient, user: str = "u1", **body: Any) -> dict[str, Any]:
    answer = await client.post("/v1/sessions", json={"user": user, "tenant": "acme", **body}, headers=SERVICE)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    session: dict[str, Any] = answer.json()
    return session


def bearer(session: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {session['client_secret']}"}


async def refreshed(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post(REFRESH, json={"refresh_token": token})


async def asked(client: httpx.AsyncClient, session: dict[str, Any]) -> httpx.Response:
    """What the page of a session gets for a message."""
    return await client.post("/chatkit", json=create_request(), headers=bearer(session))


def refused(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.status_code, answer.json().get("code", "")


async def test_a_page_refreshes_again_and_again_without_the_service(client: httpx.AsyncClient, stage: Stage) -> None:
    session = first = await sign_in(client)
    for _ in range(3):
        answer = await refreshed(client, session["refresh_token"])
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        session = answer.json()
        assert session["session_id"] == first["session_id"]
        assert stage.verifier.verify(session["client_secret"]) == Identity("acme", "u1", first["session_id"])


async def test_two_refreshes_at_once_get_the_same_successor(client: httpx.AsyncClient) -> None:
    token = (await sign_in(client))["refresh_token"]
    answers = await asyncio.gather(*(refreshed(client, token) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1


async def test_a_replayed_refresh_token_ends_the_session_at_once(client: httpx.AsyncClient) -> None:
    session = await sign_in(client)
    second = (await refreshed(client, session["refresh_token"])).json()
    third = (await refreshed(client, second["refresh_token"])).json()
    answer = await refreshed(client, session["refresh_token"])
    assert refused(answer) == (401, "session_revoked")
    assert session["refresh_token"] not in answer.text
    assert refused(await refreshed(client, third["refresh_token"])) == (401, "session_revoked")
    assert refused(await asked(client, third)) == (401, "session_revoked")


@pytest.mark.parametrize(
    "token", ["x", "crt_" + "a" * 36 + "_" + "A" * 64, "eyJhbGciOiJub25lIn0.e30.", "\u0000", "crt_" + "é" * 100]
)
async def test_what_is_no_refresh_token_is_told_so(client: httpx.AsyncClient, token: str) -> None:
    status, code = refused(await refreshed(client, token))
    assert status == 401
    assert code in {"token_invalid", "reauthenticate"}


@pytest.mark.parametrize(
    "body", [{"refresh_token": "x" * 257}, {"refresh_token": 7}, {"token": "x"}, [], {"refresh_token": ["x"]}]
)
async def test_a_wrong_body_is_a_400(client: httpx.AsyncClient, body: object) -> None:
    answer = await client.post(REFRESH, json=body)
    assert answer.status_code == 400
    assert "x" * 20 not in answer.text


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (b"{}", "user", "is missing"),
        (b'{"user": "a/b"}', "user", "must be 1 to 128 characters"),
        (b'{"user": "u1", "extra": 1}', "extra", "is not known here"),
        (b"[]", "body", "must be a JSON object"),
        (b"{", "body", "is not JSON"),
        (b"\xff", "body", "is not UTF-8"),
    ],
)
async def test_what_is_wrong_with_a_body_is_said_in_words(
    client: httpx.AsyncClient, body: bytes, field: str, message: str
) -> None:
    answer = await client.post("/v1/sessions", content=body, headers=SERVICE)
    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert error["field"] == field
    assert error["message"].startswith(message)


async def test_a_body_that_is_too_large_is_a_413(client: httpx.AsyncClient) -> None:
    answer = await client.post(REFRESH, json={"refresh_token": "x" * 100_000})
    assert answer.status_code == 413


async def test_without_any_token_there_is_a_401(client: httpx.AsyncClient) -> None:
    assert refused(await client.post(REFRESH, json={})) == (401, "token_invalid")


async def test_a_session_that_has_come_to_its_end_asks_for_a_sign_in(client: httpx.AsyncClient, stage: Stage) -> None:
    session = await sign_in(client)
    await stage.state.flushdb()
    assert refused(await refreshed(client, session["refresh_token"])) == (401, "reauthenticate")


async def test_a_client_secret_is_no_refresh_token_and_the_other_way_round(client: httpx.AsyncClient) -> None:
    session = await sign_in(client)
    assert refused(await refreshed(client, session["client_secret"][:256]))[0] == 401
    headers = {"Authorization": f"Bearer {session['refresh_token']}"}
    assert refused(await client.post("/chatkit", json=create_request(), headers=headers)) == (401, "token_invalid")


async def test_a_user_signs_out_and_everything_of_that_session_is_refused(client: httpx.AsyncClient) -> None:
    session, other = await sign_in(client), await sign_in(client)
    path = f"/v1/sessions/{session['session_id']}"
    assert (await client.delete(path, headers=bearer(session))).status_code == 204
    assert refused(await client.delete(path, headers=bearer(session))) == (401, "session_revoked")
    assert refused(await refreshed(client, session["refresh_token"])) == (401, "session_revoked")
    assert (await refreshed(client, other["refresh_token"])).status_code == 200


async def test_a_user_may_end_another_of_their_own_sessions(client: httpx.AsyncClient) -> None:
    lost, mine = await sign_in(client), await sign_in(client)
    answer = await client.delete(f"/v1/sessions/{lost['session_id']}", headers=bearer(mine))
    assert answer.status_code == 204
    assert refused(await asked(client, lost)) == (401, "session_revoked")


@pytest.mark.parametrize(("user", "tenant"), [("u2", "acme"), ("u1", "globex")])
async def test_nobody_ends_the_session_of_somebody_else(client: httpx.AsyncClient, user: str, tenant: str) -> None:
    theirs, mine = await sign_in(client, user, tenant=tenant), await sign_in(client)
    answer = await client.delete(f"/v1/sessions/{theirs['session_id']}", headers=bearer(mine))
    assert answer.status_code == 404
    assert (await refreshed(client, theirs["refresh_token"])).status_code == 200


async def test_a_service_ends_any_session_as_often_as_it_likes(client: httpx.AsyncClient, stage: Stage) -> None:
    session = await sign_in(client)
    for session_id in (session["session_id"], session["session_id"], new_session_id(Owner("acme", "nobody")), "no-id"):
        assert (await client.delete(f"/v1/sessions/{session_id}", headers=SERVICE)).status_code == 204
    assert refused(await refreshed(client, session["refresh_token"])) == (401, "session_revoked")
    assert (await client.delete(f"/v1/sessions/{session['session_id']}")).status_code == 401


async def test_another_gateway_refuses_a_revoked_session_when_it_hears_of_it(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    session = await sign_in(client)
    await stage.store.revoke([session["session_id"]])  # by another process
    assert stage.verifier.verify(session["client_secret"]).user == "u1"
    for revoked in (await stage.store.revoked_since(dict.fromkeys(stage.store.shards, 0.0))).values():
        stage.revocations.add(revoked)
    assert refused(await asked(client, session)) == (401, "session_revoked")


async def test_the_session_stands_on_the_event_as_the_token_says(client: httpx.AsyncClient, stage: Stage) -> None:
    session = await sign_in(client)
    request = create_request() | {"sessionid": "ses_of_somebody_else", "metadata": {"sessionid": "ses_x"}}
    headers = bearer(session) | {"sessionid": "ses_x", "ce-sessionid": "ses_x"}
    answer = await client.post("/chatkit", json=request, headers=headers)
    if answer.status_code != 200:  # what the protocol does not know may be refused as well
        answer = await client.post("/chatkit", json=create_request(), headers=headers)
    body = await stage.lanes.body(answer.headers["X-Event-Id"])
    assert body is not None
    assert parse_event(body).sessionid == session["session_id"]


async def test_without_redis_no_session_is_made(
    client: httpx.AsyncClient, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr(stage.sessions._store, "start", away)
    answer = await client.post("/v1/sessions", json={"user": "u1"}, headers=SERVICE)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")


@pytest.fixture
async def cookies() -> Any:
    """A gateway whose pages keep their refresh token in a cookie, called over HTTPS as their browser does."""
    state = FakeAsyncRedis()
    async with stage_on(state, "ck", beat, cookie_origins=f"{PAGE}, https://other.example:8443") as stage:
        app = stage.app()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url=PAGE) as client:
            yield client
    await state.aclose()


async def in_cookie(client: httpx.AsyncClient) -> httpx.Response:
    """A page that was given a refresh token by its service, and has it put where no script reads it."""
    token = (await sign_in(client))["refresh_token"]
    answer = await client.post(REFRESH, json={"refresh_token": token, "cookie": True}, headers=FROM_PAGE)
    assert answer.status_code == 200, answer.text
    return answer


async def test_a_refresh_token_moves_into_a_cookie_that_no_script_and_no_other_site_gets(
    cookies: httpx.AsyncClient,
) -> None:
    answer = await in_cookie(cookies)
    assert answer.json()["refresh_token"] is None
    name, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert name.startswith("__Host-chatkit-refresh=crt_")
    assert {"HttpOnly", "Secure", "SameSite=strict", "Path=/"} <= set(attributes)
    assert "Max-Age=604800" in attributes
    assert not any(attribute.lower().startswith("domain") for attribute in attributes)


async def test_the_cookie_alone_refreshes_and_rotates(cookies: httpx.AsyncClient) -> None:
    await in_cookie(cookies)
    seen = set()
    for _ in range(3):
        answer = await cookies.post(REFRESH, json={}, headers=FROM_PAGE)
        assert answer.status_code == 200, answer.text
        assert answer.json()["refresh_token"] is None
        seen.add(cookies.cookies[NAME])
    assert len(seen) == 3


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": PAGE},
        {CSRF_HEADER: "1"},
        {"Origin": "https://evil.example", CSRF_HEADER: "1"},
        {"Origin": "null", CSRF_HEADER: "1"},
        {"Origin": PAGE.replace("https", "http"), CSRF_HEADER: "1"},
        {"Origin": f"{PAGE}.evil.example", CSRF_HEADER: "1"},
        {"Origin": f"{PAGE}:444", CSRF_HEADER: "1"},
        {"Referer": f"{PAGE}/", CSRF_HEADER: "1"},
    ],
)
async def test_a_foreign_page_can_neither_use_the_cookie_nor_set_one(
    cookies: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    await in_cookie(cookies)
    kept = cookies.cookies[NAME]
    used = await cookies.post(REFRESH, json={}, headers=headers)
    token = (await sign_in(cookies, "attacker"))["refresh_token"]
    planted = await cookies.post(REFRESH, json={"refresh_token": token, "cookie": True}, headers=headers)
    form = await cookies.post(REFRESH, content=json.dumps({}), headers=headers | {"Content-Type": "text/plain"})
    assert [answer.status_code for answer in (used, planted, form)] == [403, 403, 403]
    assert cookies.cookies[NAME] == kept
    assert (await cookies.post(REFRESH, json={}, headers=FROM_PAGE)).status_code == 200


async def test_a_token_in_the_body_needs_no_origin_and_leaves_the_cookie_alone(cookies: httpx.AsyncClient) -> None:
    await in_cookie(cookies)
    token = (await sign_in(cookies))["refresh_token"]
    answer = await refreshed(cookies, token)
    assert answer.status_code == 200
    assert answer.json()["refresh_token"].startswith("crt_")
    assert "Set-Cookie" not in answer.headers


async def test_a_cookie_of_a_session_that_is_over_is_taken_back(cookies: httpx.AsyncClient) -> None:
    session = (await in_cookie(cookies)).json()
    await cookies.delete(f"/v1/sessions/{session['session_id']}", headers=SERVICE | {"Cookie": ""})
    answer = await cookies.post(REFRESH, json={}, headers=FROM_PAGE)
    assert refused(answer) == (401, "session_revoked")
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert answer.headers["Set-Cookie"].startswith(f"{NAME}=")
    assert NAME not in cookies.cookies


async def test_a_user_who_signs_out_loses_the_cookie(cookies: httpx.AsyncClient) -> None:
    session = (await in_cookie(cookies)).json()
    answer = await cookies.delete(f"/v1/sessions/{session['session_id']}", headers=bearer(session))
    assert answer.status_code == 204
    assert NAME not in cookies.cookies


async def test_a_service_may_have_the_cookie_set_in_its_own_answer(cookies: httpx.AsyncClient) -> None:
    session = await sign_in(cookies, cookie=True)
    assert session["refresh_token"] is None
    assert (await cookies.post(REFRESH, json={}, headers=FROM_PAGE)).status_code == 200


async def test_where_no_page_is_named_there_are_no_cookies(client: httpx.AsyncClient) -> None:
    token = (await sign_in(client))["refresh_token"]
    wanted = await client.post("/v1/sessions", json={"user": "u1", "cookie": True}, headers=SERVICE)
    moved = await client.post(REFRESH, json={"refresh_token": token, "cookie": True}, headers=FROM_PAGE)
    sent = await client.post(REFRESH, json={}, headers=FROM_PAGE | {"Cookie": f"{NAME}={token}"})
    assert [answer.status_code for answer in (wanted, moved, sent)] == [400, 400, 400]
    assert (await refreshed(client, token)).status_code == 200, "and nothing was spent"


@pytest.mark.parametrize("value", ["", "x", "x" * 5000, "crt_" + "A" * 5000])
async def test_a_cookie_that_is_none_is_refused_and_taken_back(cookies: httpx.AsyncClient, value: str) -> None:
    answer = await cookies.post(REFRESH, json={}, headers=FROM_PAGE | {"Cookie": f"{NAME}={value}"})
    assert refused(answer) == (401, "token_invalid")


async def test_an_oversize_authorization_is_refused_without_reading_it(client: httpx.AsyncClient) -> None:
    for token in ("x" * 1_000_000, "eyJ" + "A" * 100_000 + ".e30.x", "." * 100_000):
        answer = await client.post("/chatkit", json=create_request(), headers={"Authorization": f"Bearer {token}"})
        assert refused(answer) == (401, "token_invalid")


async def test_a_session_lives_as_long_as_the_settings_say() -> None:
    state = FakeAsyncRedis()
    async with (
        stage_on(state, "ck", beat, session_ttl=60, session_idle_ttl=60, client_secret_ttl=600) as stage,
        calling(stage) as client,
    ):
        session = stage.verifier.verify((await sign_in(client))["client_secret"])
        [record] = [one for page in [await stage.store.page("acme", "u1")] for one in page.items]
        assert record.session_id == session.session_id
        assert record.ends_at - record.made_at == timedelta(seconds=60)
    await state.aclose()


async def test_what_a_sessions_page_said_is_shown_to_its_user_and_to_services(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    said = PageState(session_id="s1", tenant="acme", user="u1", ready=True, open_thread_id="thr_1", last_event="ready")
    stage.pages.states["acme", "s1"] = said
    answer = await client.get("/v1/sessions/s1", headers=stage.bearer())
    assert PageState.model_validate(answer.json()) == said
    assert (await client.get("/v1/sessions/s1?tenant=acme", headers=SERVICE)).json() == answer.json()
    for headers in (stage.bearer("u2"), stage.bearer("u1", "globex"), SERVICE):
        assert (await client.get("/v1/sessions/s1", headers=headers)).status_code == 404
    assert (await client.get("/v1/sessions/s1?tenant=acme", headers=stage.bearer("u1", "globex"))).status_code == 404
    assert (await client.get("/v1/sessions/s1")).status_code == 401
