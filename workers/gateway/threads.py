"""`/v1/threads`: what goes on in a conversation, for a page that was loaded again."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from schemas.events import lane_of
from schemas.names import Name
from schemas.records import EventStatus
from workers.gateway.auth import Runtime, User, may_listen, owner_of
from workers.gateway.ports import GatewayRuntime
from workers.gateway.problem import not_found
from workers.gateway.sse import open_stream
from workers.limits.places import PlaceInThread, in_line
from workers.sessions.tokens import Identity

router = APIRouter(prefix="/v1/threads", tags=["threads"])

MOST = 50
"""Of the events of one lane; the running one is the first."""


@router.get("/{thread_id}/events", summary="What waits or runs in a thread")
async def events(thread_id: Name, runtime: Runtime, user: User) -> list[EventStatus]:
    """The caller's own events, in their order: none when nothing goes on, or the thread is somebody else's."""
    owner, found = owner_of(user), []
    for event_id in (await runtime.lanes.events_of(lane_of(user.tenant, thread_id)))[:MOST]:
        known = await runtime.lanes.status(event_id)
        if known is not None and known[1] == owner:
            found.append(await in_line(known[0], runtime.limiter))
    return found


@router.get("/{thread_id}/stream", summary="Follow a thread over its turns")
async def follow(thread_id: Name, request: Request, runtime: Runtime, user: User) -> Response:
    """Server-sent events of the turn that runs, from its start or after `Last-Event-ID`, then of each that follows.

    A turn's last event is `turn.end` with its id, state and reason; the stream itself has no end. What was said before
    is read by the ChatKit request `threads.get_by_id`. The place in line of a turn that waits for a limit is told as
    progress.
    """
    await _check_known(thread_id, runtime, user)
    owner, lane = owner_of(user), lane_of(user.tenant, thread_id)
    place = PlaceInThread(runtime.limiter)
    batches = runtime.reader.thread(lane, owner, request.headers.get("Last-Event-ID"), at=place.at)
    return await open_stream(
        batches, with_end=True, permitted=lambda: may_listen(user, runtime), waiting=place.said_to_user
    )


async def _check_known(thread_id: str, runtime: GatewayRuntime, user: Identity) -> None:
    """A thread is the user's, or is about to be: its beginning may still wait. Raises a 404."""
    known = await runtime.reads.has_thread(thread_id, tenant=user.tenant, user=user.user)
    if not known and not await events(thread_id, runtime, user):
        raise not_found("thread")
