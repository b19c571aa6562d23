"""Sessions that OpenAI hosts, behind the interface of our own: a real client against a server on loopback."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from openai import AsyncOpenAI

from tests.deployment import SERVICE, Deployment
from tests.hosted_chatkit import HostedChatKit
from workers.errors import AuthenticationError, CallError, PermanentError, QuotaError, RateLimitedError, TransientError
from workers.lanes.records import Owner
from workers.sessions.hosted import HostedSessions
from workers.sessions.ports import SessionProvider
from workers.sessions.tokens import TokenCode, TokenError

ME, THEIRS = Owner("default", "u1"), Owner("acme", "u1")


@pytest.fixture
def hosted() -> Iterator[HostedChatKit]:
    with HostedChatKit() as hosted:
        yield hosted


@pytest.fixture
async def sessions(hosted: HostedChatKit) -> AsyncIterator[SessionProvider]:
    async with AsyncOpenAI(api_key="sk-of-no-value", base_url=hosted.base_url, max_retries=0) as client:
        yield HostedSessions(client, "wf_1", timedelta(minutes=5))


async def test_a_hosted_session_is_one_of_openai(sessions: SessionProvider, hosted: HostedChatKit) -> None:
    session = await sessions.start(ME)
    assert (session.client_secret, session.session_id, session.refresh_token) == ("ek_of_cksess_1", "cksess_1", None)
    assert timedelta(minutes=4) < session.expires_at - datetime.now(UTC) <= timedelta(minutes=5)
    [asked] = hosted.asked
    assert asked.body == {
        "user": "u1",
        "workflow": {"id": "wf_1"},
        "expires_after": {"anchor": "created_at", "seconds": 300},
    }
    assert asked.headers["openai-beta"] == "chatkit_beta=v1"
    assert asked.headers["authorization"] == "Bearer sk-of-no-value"


async def test_users_of_two_tenants_are_two_users(sessions: SessionProvider, hosted: HostedChatKit) -> None:
    for owner in (ME, THEIRS):
        await sessions.start(owner)
    assert [asked.body["user"] for asked in hosted.asked] == ["u1", "acme/u1"]


async def test_it_is_renewed_by_another_and_never_refreshed(sessions: SessionProvider) -> None:
    first = await sessions.start(ME)
    assert (await sessions.renew(ME, first.session_id)).session_id != first.session_id
    with pytest.raises(TokenError) as caught:
        await sessions.refresh("crt_")
    assert caught.value.code is TokenCode.REAUTHENTICATE


async def test_it_is_cancelled_at_openai_and_what_is_unknown_there_is_ended(
    sessions: SessionProvider, hosted: HostedChatKit
) -> None:
    session = await sessions.start(ME)
    await sessions.end(session.session_id)
    assert hosted.cancelled == {session.session_id}
    await sessions.end("unknown")
    with pytest.raises(PermanentError):
        await sessions.end_all(ME)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AuthenticationError),
        (403, QuotaError),
        (429, RateLimitedError),
        (500, TransientError),
        (503, TransientError),
        (400, PermanentError),
        (404, PermanentError),
    ],
)
async def test_each_refusal_becomes_an_error_of_ours_without_its_text(
    sessions: SessionProvider, hosted: HostedChatKit, status: int, kind: type[CallError]
) -> None:
    hosted.status = status
    with pytest.raises(CallError) as caught:
        await sessions.start(ME)
    assert isinstance(caught.value, kind)
    assert "SECRET" not in str(caught.value)
    assert str(status) in str(caught.value)


async def test_an_openai_that_is_away_is_a_failure_that_may_pass() -> None:
    async with AsyncOpenAI(api_key="sk-of-no-value", base_url="http://127.0.0.1:1/v1", max_retries=0) as client:
        with pytest.raises(TransientError):
            await HostedSessions(client, "wf_1", timedelta(minutes=5)).start(ME)


@pytest.fixture
def gateway(redis_url: str, sqlite_url: str, hosted: HostedChatKit) -> Iterator[str]:
    """The address of a gateway that hands out sessions of a workflow."""
    settings = {"OPENAI_BASE_URL": hosted.base_url, "OPENAI_API_KEY": "sk-of-no-value"}
    with Deployment(redis_url, sqlite_url, CHATKIT_HOSTED_WORKFLOW="wf_1", **settings) as deployment:
        yield deployment.gateway()


@pytest.mark.redis
async def test_a_gateway_of_a_workflow_hands_out_hosted_sessions(gateway: str, hosted: HostedChatKit) -> None:
    async with httpx.AsyncClient(base_url=gateway, headers=SERVICE) as http:
        answer = await http.post("/v1/sessions", json={"user": "u1"})
        assert (answer.status_code, answer.json()["session_id"]) == (200, "cksess_1")
        assert (await http.delete("/v1/sessions/cksess_1")).status_code == 204
        hosted.status = 500
        answer = await http.post("/v1/sessions", json={"user": "u1"})
        assert (answer.status_code, "SECRET" in answer.text) == (502, False)
    assert hosted.cancelled == {"cksess_1"}
