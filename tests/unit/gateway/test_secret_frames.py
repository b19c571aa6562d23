"""The one frame that holds a client secret: whom it is shown to, and for how long."""

import json
from typing import Any

import httpx
import pytest

from schemas.chatkit import ClientEffectEvent, frame_of
from schemas.events import Event
from schemas.outcome import Done
from tests.unit.gateway.parsing import parse_sse
from tests.unit.gateway.stage import SERVICE, Stage, create_request
from workers.lanes.records import Owner, Settlement
from workers.sessions.deposits import SecretDeposits
from workers.streams.turn_frames import TurnFrames


def hands_over(handle: str) -> Any:
    """A turn that shows the frame."""

    async def turn(frames: TurnFrames, _: Event) -> Settlement:
        data = {"session_id": "ses_x", "expires_at": "2026-01-02T03:04:05Z", "handle": handle}
        await frames.send(frame_of(ClientEffectEvent(name="client_secret", data=data)))
        await frames.send(b'{"type":"progress_update","text":"working"}')
        await frames.flush()
        return Settlement(frames._lease, Done())

    return turn


def shown(answer: httpx.Response) -> dict[str, Any]:
    """The data of the effect."""
    effect, after, *_ = [json.loads(event.data) for event in parse_sse(answer.content)]
    assert after == {"type": "progress_update", "text": "working"}
    data: dict[str, Any] = effect["data"]
    return data


async def test_only_the_owner_is_shown_the_secret(client: httpx.AsyncClient, stage: Stage) -> None:
    session = await stage.sessions.start(Owner("acme", "u1"))
    stage.waker.answer = hands_over(await stage.deposits.put(Owner("acme", "u1"), session))
    answer = await client.post("/chatkit", json=create_request(), headers=stage.bearer())
    data = shown(answer)
    assert (data["client_secret"], data["refresh_token"]) == (session.client_secret, session.refresh_token)
    path = f"/v1/events/{answer.headers['X-Event-Id']}/stream"
    assert shown(await client.get(path, headers=stage.bearer())) == data
    assert set(shown(await client.get(path, headers=SERVICE))) == {"session_id", "expires_at", "handle"}
    assert (await client.get(path, headers=stage.bearer("u2"))).status_code == 404
    assert (await client.get(path, headers=stage.bearer("u1", "globex"))).status_code == 404


async def test_a_deposit_of_another_user_is_not_to_be_had_by_a_forged_frame(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    session = await stage.sessions.start(Owner("acme", "u2"))
    stage.waker.answer = hands_over(await stage.deposits.put(Owner("acme", "u2"), session))
    answer = await client.post("/chatkit", json=create_request(), headers=stage.bearer())
    assert session.client_secret not in answer.text
    assert "client_secret" not in shown(answer)


async def test_after_a_minute_the_frame_is_shown_without_it(
    client: httpx.AsyncClient, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await stage.sessions.start(Owner("acme", "u1"))
    handle = await stage.deposits.put(Owner("acme", "u1"), session)
    state: Any = stage.state
    assert 0 < await state.pttl(stage.keys.deposit(handle)) <= 60_000
    await state.delete(stage.keys.deposit(handle))  # the minute is over
    stage.waker.answer = hands_over(handle)
    assert "client_secret" not in shown(await client.post("/chatkit", json=create_request(), headers=stage.bearer()))

    async def away(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(SecretDeposits, "get", away)  # nor does a state that is away break the stream off
    assert "client_secret" not in shown(await client.post("/chatkit", json=create_request(), headers=stage.bearer()))
