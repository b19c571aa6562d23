"""`/v1/events`: publish, look, follow, cancel."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from schemas.bindings import BATCH_TYPE, STRUCTURED_TYPE
from schemas.errors import InvalidEventError
from schemas.events import Event
from schemas.outcome import CancelReason
from schemas.records import Acceptance, EventStatus
from schemas.traces import HEADER, with_trace
from workers.gateway.acceptance import accept_all, acceptance_of, let_in
from workers.gateway.auth import AnyCaller, Runtime, Service, may_listen, owned_status, owner_of
from workers.gateway.cloudevents import receive
from workers.gateway.page_events import receive_from_page
from workers.gateway.ports import GatewayRuntime
from workers.gateway.problem import ProblemError, invalid, not_found, refused, retry_after
from workers.gateway.requests import traceparent_of
from workers.gateway.secret_frames import with_secrets
from workers.gateway.sse import Listening, open_stream
from workers.lanes.records import Accepted, Refused
from workers.limits.places import forget, said_to_user
from workers.sessions.tokens import Identity

router = APIRouter(prefix="/v1/events", tags=["events"])

EVENT_SCHEMA = Event.model_json_schema()
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            STRUCTURED_TYPE: {"schema": EVENT_SCHEMA},
            BATCH_TYPE: {"schema": {"type": "array", "items": EVENT_SCHEMA}},
            "application/json": {"schema": EVENT_SCHEMA},
        },
    }
}

Place = Event | InvalidEventError
Answers = dict[int, Accepted | Refused]


@router.post("", summary="Publish one event or a batch", response_model=Acceptance, status_code=202, openapi_extra=BODY)
async def publish(request: Request, runtime: Runtime, caller: AnyCaller) -> Response:
    """CloudEvents 1.0 in structured, batched or binary mode. 202 when anything is new, 200 when all was known.

    With a client secret: a batch of `chatkit.ui.*` events, whose user, tenant and source are those of the secret.
    """
    if isinstance(caller, Service):
        received = await receive(request, runtime.settings.max_event_bytes)
    else:
        received = await receive_from_page(request, caller)
        await let_in(caller, runtime, len(received.events))
    trace = traceparent_of(request)
    places = [_let_through(place, trace, runtime) for place in received.events]
    answers = await _accept(places, runtime)
    if received.is_batch:
        return _batch_answer(places, answers)
    [event] = places
    if isinstance(event, InvalidEventError):
        raise event
    answer = answers[0]
    if isinstance(answer, Refused):
        raise refused(answer)
    status = HTTPStatus.OK if answer.duplicate else HTTPStatus.ACCEPTED
    headers = {"Location": f"/v1/events/{answer.event_id}"}
    if not answer.duplicate:  # else the trace is that of its first publication
        headers[HEADER] = str(event.traceparent)
    return JSONResponse(acceptance_of(event, answer).model_dump(mode="json"), status, headers)


@router.get("/{event_id}", summary="Where an event is")
async def show(event_id: str, runtime: Runtime, caller: AnyCaller) -> EventStatus:
    """State, attempt, place in line, times."""
    return await owned_status(event_id, caller, runtime)


@router.get("/{event_id}/stream", summary="Follow an event")
async def follow(event_id: str, request: Request, runtime: Runtime, caller: AnyCaller) -> Response:
    """Server-sent events from the start, or after `Last-Event-ID`; the last one is `event: end`."""
    status = await owned_status(event_id, caller, runtime)
    after = request.headers.get("Last-Event-ID")
    batches = runtime.reader.batches(status.lane, event_id, after)
    if isinstance(caller, Identity):  # whose event it is: `owned_status` has made sure
        batches = with_secrets(batches, owner_of(caller), runtime.deposits)
    return await open_stream(
        batches,
        with_end=True,
        permitted=lambda: may_listen(caller, runtime),
        headers={HEADER: status.traceparent} if status.traceparent else None,
        waiting=lambda: said_to_user(event_id, runtime.limiter),
        listening=Listening(event_id, status.traceparent, resumed=after is not None),
    )


@router.post("/{event_id}/cancel", summary="Stop an event", status_code=202)
async def cancel(event_id: str, runtime: Runtime, caller: AnyCaller) -> dict[str, str]:
    """202: from now on no more of its text appears. 409: it had ended."""
    status = await owned_status(event_id, caller, runtime)
    reason = CancelReason.OPERATOR if isinstance(caller, Service) else CancelReason.USER
    cancellation = await runtime.lanes.cancel(event_id, reason, lane=status.lane)
    if cancellation.result == "cancelled":  # what a worker has to end, that takes out of the line
        await forget(event_id, runtime.limiter)
    if cancellation.wake is not None:
        await runtime.waker.wake([cancellation.wake])
    if cancellation.result == "unknown":
        raise not_found("event")
    if cancellation.result == "ended":
        raise ProblemError(HTTPStatus.CONFLICT, "the event has ended", id=status.id)
    return {"id": status.id, "state": cancellation.result}


def _let_through(place: Place, trace: str, runtime: GatewayRuntime) -> Place:
    """The event, in a trace. What the deployment does not allow is as wrong as what cannot be read."""
    if isinstance(place, InvalidEventError):
        return place
    try:
        runtime.allowed.check(place)
    except InvalidEventError as error:
        return error
    return with_trace(place, trace)


async def _accept(places: list[Place], runtime: GatewayRuntime) -> Answers:
    """Accept the events among the places, in order."""
    valid = [(index, place) for index, place in enumerate(places) if isinstance(place, Event)]
    accepted = await accept_all([event for _, event in valid], runtime)
    return {index: answer for (index, _), answer in zip(valid, accepted, strict=True)}


def _batch_answer(places: list[Place], answers: Answers) -> Response:
    """A list with one answer for each place: an acceptance, or why there is none."""
    body: list[dict[str, Any]] = []
    for index, place in enumerate(places):
        answer = answers.get(index)
        if isinstance(place, InvalidEventError):
            body.append(_refusal(invalid(place)))
        elif isinstance(answer, Accepted):
            body.append(acceptance_of(place, answer).model_dump(mode="json"))
        elif isinstance(answer, Refused):
            body.append({"id": answer.event_id, **_refusal(refused(answer))})
    waits = [answer.retry_after_seconds for answer in answers.values() if isinstance(answer, Refused)]
    return JSONResponse(body, _batch_status(places, answers), retry_after(max(waits)) if waits else None)


def _batch_status(places: list[Place], answers: Answers) -> HTTPStatus:
    """202 when anything is new; an error only when nothing was taken, so that the caller reads the places."""
    accepted = [answer for answer in answers.values() if isinstance(answer, Accepted)]
    if any(not answer.duplicate for answer in accepted):
        return HTTPStatus.ACCEPTED
    if accepted or not places:
        return HTTPStatus.OK
    return HTTPStatus.TOO_MANY_REQUESTS if answers else HTTPStatus.BAD_REQUEST


def _refusal(error: ProblemError) -> dict[str, Any]:
    return {"error": {"status": error.status.value, "detail": error.detail, **error.members}}
