"""`POST /chatkit`: the ChatKit protocol, for pages."""

import asyncio
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, assert_never

import pydantic_core
from fastapi import APIRouter, Request
from starlette.responses import Response

from schemas.chatkit import STREAMING_REQUESTS, request_types
from schemas.events import CREATE, PREFIX, Event
from schemas.outcome import CancelReason, EventState
from schemas.traces import HEADER
from workers.gateway.acceptance import accept_one, check_same_request, let_in
from workers.gateway.auth import Runtime, User, may_listen, owner_of
from workers.gateway.ports import GatewayRuntime
from workers.gateway.problem import ProblemError
from workers.gateway.requests import event_of
from workers.gateway.secret_frames import with_secrets
from workers.gateway.sse import Batches, Listening, open_stream
from workers.limits.places import forget, said_to_user
from workers.streams.records import StreamEnd, StreamFrame

router = APIRouter(tags=["chatkit"])

EVENT_ID_HEADER = "X-Event-Id"

REQUEST: dict[str, Any] = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"enum": list(request_types())},
        "params": {"type": "object", "description": "As the ChatKit client sends them."},
        "metadata": {"type": "object"},
    },
}
BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": REQUEST}}}}


@router.post("/chatkit", summary="One request of the ChatKit protocol", openapi_extra=BODY)
async def chatkit(request: Request, runtime: Runtime, user: User) -> Response:
    """Streaming requests are answered by server-sent events, others by JSON. Closing the connection stops nothing."""
    await let_in(user, runtime)
    event = await event_of(request, user, runtime.settings.max_event_bytes, runtime.allowed)
    if not event.needs_turn:
        return await _answer_here(event, runtime)
    if event.thread_id is not None and event.type != CREATE:
        await runtime.reads.check_thread(event.thread_id, tenant=event.tenant, user=event.userid)
    accepted = await accept_one(event, runtime)
    if accepted.duplicate:
        await check_same_request(event, runtime)
    headers = {EVENT_ID_HEADER: event.event_id}
    if not accepted.duplicate:  # else the trace is that of the first request
        headers[HEADER] = str(event.traceparent)
    after = request.headers.get("Last-Event-ID")
    batches = runtime.reader.batches(accepted.lane, accepted.event_id, after, acceptance=accepted.acceptance)
    if event.type.removeprefix(PREFIX) in STREAMING_REQUESTS:
        return await open_stream(
            with_secrets(batches, owner_of(user), runtime.deposits),
            with_end=False,
            permitted=lambda: may_listen(user, runtime),
            headers=headers,
            waiting=lambda: said_to_user(event.event_id, runtime.limiter),
            listening=None
            if accepted.duplicate
            else Listening(event.event_id, event.traceparent, resumed=after is not None),
        )
    return await _single_answer(batches, headers, runtime.settings.turn_seconds)


async def _answer_here(event: Event, runtime: GatewayRuntime) -> Response:
    """What needs no worker is not sent through the queue, so that it never waits behind a turn."""
    if event.type == "chatkit.threads.delete":
        await _stop_thread(event, runtime)
    return Response(await _read(event, event.data, runtime), media_type="application/json")


async def _read(event: Event, request: object, runtime: GatewayRuntime) -> bytes:
    body = pydantic_core.to_json(request)
    return await runtime.reads.answer(body, tenant=event.tenant, user=event.userid, event_id=event.event_id)


async def _stop_thread(event: Event, runtime: GatewayRuntime) -> None:
    """Cancel what runs and waits in a thread that is about to be deleted, if it is the user's."""
    look = {"type": "threads.get_by_id", "params": {"thread_id": event.thread_id}}
    await _read(event, look, runtime)  # raises for somebody else's thread, before anything is stopped
    for event_id in await runtime.lanes.events_of(event.lane):
        cancellation = await runtime.lanes.cancel(event_id, CancelReason.THREAD_DELETED)
        await forget(event_id, runtime.limiter)
        if cancellation.wake is not None:
            await runtime.waker.wake([cancellation.wake])


async def _single_answer(batches: Batches, headers: dict[str, str], within_seconds: float) -> Response:
    """The one frame of a request that runs in a worker and is answered by JSON."""
    answer, end = b"{}", None
    try:
        async with asyncio.timeout(within_seconds), aclosing(batches):
            async for batch in batches:
                for entry in batch:
                    if isinstance(entry, StreamFrame):
                        answer = entry.data
                    else:
                        end = entry
    except TimeoutError:
        raise ProblemError(HTTPStatus.GATEWAY_TIMEOUT, "no worker answered in time", headers=headers) from None
    if end is None:
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "this gateway is shutting down", headers=headers)
    _check_done(end, headers)
    return Response(answer, media_type="application/json", headers=headers)


def _check_done(end: StreamEnd, headers: dict[str, str]) -> None:
    match end.state:
        case EventState.DONE:
            return
        case EventState.DEAD:
            status, detail = HTTPStatus.BAD_GATEWAY, "the request could not be answered"
        case EventState.CANCELLED:
            status, detail = HTTPStatus.CONFLICT, "the request was cancelled"
        case EventState.DROPPED:
            status, detail = HTTPStatus.GONE, "the request was not answered, on purpose"
        case EventState.QUEUED | EventState.RUNNING | EventState.WAITING_RETRY | EventState.WAITING_LIMIT:
            raise ValueError(f"{end.state} is no end")
        case _:
            assert_never(end.state)
    raise ProblemError(status, detail, headers=headers, state=end.state, reason=end.reason)
