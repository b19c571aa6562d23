"""`/v1/dead`: dead letters, for whoever holds a service key."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from schemas.outcome import DeadReason
from schemas.records import DeadLetter
from workers.gateway.auth import AnyService, Runtime
from workers.gateway.problem import ProblemError, not_found, refused
from workers.lanes.dead_letters import DeadFilter, UnknownPageError
from workers.lanes.records import Refused
from workers.lanes.replies import LANE_FULL_SECONDS
from workers.redrive import redrive as redrive_letter

router = APIRouter(prefix="/v1/dead", tags=["dead letters"])

WHY = {
    "superseded": "a later turn of its conversation has begun; force=true answers it out of place",
    "gone": "it has been redriven already",
    "refused": "it never was an event: publish it again, corrected",
}


class DeadList(BaseModel):
    """A page of dead letters, newest first; `next` begins the next one as `after`."""

    items: list[dict[str, Any]]
    next: str | None


@router.get("", summary="List dead letters")
async def list_(
    runtime: Runtime,
    _: AnyService,
    type: str | None = None,  # noqa: A002  # the name of the query parameter
    reason: DeadReason | None = None,
    tenant: str | None = None,
    thread: str | None = None,
    since: datetime | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> DeadList:
    """Newest first. `type` is a shell-style pattern, `since` a time as in RFC 3339."""
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    wanted = DeadFilter(type=type, reason=reason, tenant=tenant, thread=thread, since=since)
    try:
        page = await runtime.lanes.dead_letters.page(wanted, limit=limit, after=after)
    except UnknownPageError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"after: {error}") from None
    return DeadList(items=[letter.model_dump(mode="json", exclude={"body"}) for letter in page.items], next=page.next)


@router.get("/{letter_id}", summary="Show a dead letter")
async def show(letter_id: str, runtime: Runtime, _: AnyService) -> DeadLetter:
    """With the event, or with the bytes that never parsed as base64 (`raw`)."""
    letter = await runtime.lanes.dead_letters.get(letter_id)
    if letter is None:
        raise not_found("dead letter")
    return letter


@router.post("/{letter_id}/redrive", summary="Run a dead event again", status_code=202)
async def redrive(letter_id: str, runtime: Runtime, _: AnyService, force: bool = False) -> dict[str, str]:
    """202: it runs again, under the same id. 409: it was redriven already, is superseded, or never parsed. 429: it had
    found no room in its lane, and there still is none."""
    redriven = await redrive_letter(runtime.lanes, letter_id, runtime.router.queue_of, force=force)
    if redriven.wake is not None:
        await runtime.waker.wake([redriven.wake])
    if redriven.result == "redriven":
        return {"id": letter_id, "state": "queued"}
    if redriven.result == "full":
        raise refused(Refused(letter_id, "", "lane_full", LANE_FULL_SECONDS))
    if redriven.result == "gone" and await runtime.lanes.status(letter_id) is None:
        raise not_found("dead letter")
    raise ProblemError(HTTPStatus.CONFLICT, WHY[redriven.result], id=letter_id, reason=redriven.result)
