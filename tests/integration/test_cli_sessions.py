"""`chatkit-workers sessions`, as an operator runs it, beside a gateway that takes client secrets."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from schemas.bindings import BATCH_TYPE
from tests.cli_process import Finished, cli
from tests.deployment import SERVICE, Deployment
from tests.eventually import eventually
from workers.lanes.records import Owner
from workers.sessions.ids import new_session_id

pytestmark = pytest.mark.redis


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str) -> Iterator[Deployment]:
    with Deployment(redis_url, sqlite_url) as deployment:
        yield deployment


@pytest.fixture
async def http(deployment: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=deployment.gateway()) as http:
        yield http


async def sign_in(http: httpx.AsyncClient, user: str, tenant: str = "default") -> dict[str, Any]:
    answer = await http.post("/v1/sessions", json={"user": user, "tenant": tenant}, headers=SERVICE)
    session: dict[str, Any] = answer.json()
    return session


async def refused(http: httpx.AsyncClient, session: dict[str, Any]) -> str | None:
    """The code with which a client secret is refused; None: it is taken."""
    headers = {"Authorization": f"Bearer {session['client_secret']}"}
    answer = await http.post("/chatkit", json={"type": "threads.list", "params": {}}, headers=headers)
    code: str | None = answer.json().get("code") if answer.status_code == 401 else None
    return code


async def test_an_operator_lists_and_revokes_sessions(deployment: Deployment, http: httpx.AsyncClient) -> None:
    sessions = [await sign_in(http, user) for user in ("u1", "u1", "u2")]
    sessions += [await sign_in(http, "u1", "acme"), await sign_in(http, "u3", "acme")]
    ids = [session["session_id"] for session in sessions]

    async def run(*arguments: str, code: int = 0) -> Finished:
        finished = await cli("sessions", *arguments, env=deployment.process_environment())
        assert finished.code == code, finished
        return finished

    async def listed(*arguments: str) -> set[str]:
        return {record["session_id"] for record in (await run("list", "--json", *arguments)).records}

    assert await listed() == set(ids)
    assert await listed("--user", "u1") == set(ids[:2])
    assert await listed("--tenant", "acme") == set(ids[3:])
    assert await listed("--tenant", "acme", "--user", "u1") == {ids[3]}
    assert len(await listed("--limit", "2")) == 2
    [record] = (await run("list", "--json", "--user", "u2")).records
    assert set(record) == {"session_id", "tenant", "user", "made_at", "seen_at", "ends_at"}
    assert ids[2] in (await run("list", "--user", "u2")).lines[0]

    assert (await run("revoke", ids[0])).lines == [f"{ids[0]} revoked"]
    assert (await run("revoke", "--json", ids[0])).records == [{"session_id": ids[0], "result": "gone"}]

    async def first_is_refused() -> bool:
        return await refused(http, sessions[0]) == "session_revoked"

    await eventually(first_is_refused)
    assert await refused(http, sessions[1]) is None
    finished = await run("revoke", "--json", "--tenant", "acme")
    assert {record["session_id"] for record in finished.records} == set(ids[3:])
    assert finished.err == "2 revoked\n"
    assert await listed() == set(ids[1:3])
    await run("revoke", "--all")
    assert await listed() == set()
    assert "no sessions" in (await run("list")).err

    async def all_are_refused() -> bool:
        return all([await refused(http, session) == "session_revoked" for session in sessions])

    await eventually(all_are_refused)


async def test_what_is_not_meant_is_not_done(deployment: Deployment) -> None:
    environment = deployment.process_environment()
    some = new_session_id(Owner("default", "u1"))
    for arguments in ([], ["--all", "--user", "u1"], [some, "--all"], [some, "--tenant", "acme"]):
        finished = await cli("sessions", "revoke", *arguments, env=environment)
        assert finished.code == 2
        assert "give ids, or --user and --tenant, or --all" in finished.err
    wrong = await cli("sessions", "revoke", "ses_1", env=environment)
    assert (wrong.code, wrong.out) == (1, "")
    assert "ses_1 is no session id" in wrong.err


async def test_without_redis_there_is_one_line(deployment: Deployment) -> None:
    environment = deployment.process_environment() | {"CHATKIT_STATE_URL": "redis://127.0.0.1:1/0"}
    finished = await cli("sessions", "list", env=environment)
    assert finished.code == 1
    assert len(finished.err.splitlines()) == 1


async def test_an_operator_sees_what_a_sessions_page_said_last(deployment: Deployment, http: httpx.AsyncClient) -> None:
    deployment.worker()
    session = await sign_in(http, "u1", "acme")
    session_id, headers = session["session_id"], {"Authorization": f"Bearer {session['client_secret']}"}

    async def show(id_: str = session_id) -> Finished:
        return await cli("sessions", "show", id_, "--json", env=deployment.process_environment())

    [before] = (await show()).records
    assert (before["session_id"], before["tenant"], "open_thread_id" in before) == (session_id, "acme", False)
    changed = {"specversion": "1.0", "id": "1", "source": "/page", "type": "chatkit.ui.thread.change"}
    batch = json.dumps([{**changed, "data": {"threadId": "thr_1"}}])
    answer = await http.post("/v1/events", content=batch, headers=headers | {"Content-Type": BATCH_TYPE})
    assert answer.status_code == 202

    async def said() -> bool:
        return (await http.get(f"/v1/sessions/{session_id}", headers=headers)).status_code == 200

    assert await eventually(said)
    [after] = (await show()).records
    assert (after["user"], after["open_thread_id"], after["ends_at"]) == ("u1", "thr_1", before["ends_at"])
    missing = await show("ses_" + "a" * 36)
    assert (missing.code, "no session" in missing.err) == (1, True)
