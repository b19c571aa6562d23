"""`/v1/threads`: what goes on in a conversation, for a page that was loaded again."""

from fastapi import APIRouter

from schemas.events import lane_of
from schemas.names import Name
from schemas.records import EventStatus
from workers.gateway.auth import Runtime, User, owner_of

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
            found.append(known[0])
    return found
