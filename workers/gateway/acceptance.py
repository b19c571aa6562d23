"""From a checked event to its acceptance, and to its first wake-up."""

import json
from collections.abc import Sequence
from http import HTTPStatus

from schemas.events import Event
from schemas.records import Acceptance
from workers import failpoints
from workers.failpoints import FailPoint
from workers.gateway.ports import GatewayRuntime
from workers.gateway.problem import ProblemError, refused, retry_after
from workers.lanes.records import Accepted, Owner, Refused, Wake
from workers.sessions.tokens import Identity

BATCH = 100
"""Events of one round trip."""


async def let_in(user: Identity, runtime: GatewayRuntime, count: int = 1) -> None:
    """Count a user's requests before any is looked at. Raises a 429 when there are too many."""
    wait = await runtime.door.admit(Owner(user.tenant, user.user), count)
    if wait is not None:
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"too many requests of this user: {runtime.settings.user_rate} a minute may come",
            headers=retry_after(wait.total_seconds()),
            reason="user_rate",
        )


async def accept_all(events: Sequence[Event], runtime: GatewayRuntime) -> list[Accepted | Refused]:
    """Accept events, in order, and wake the heads of their lanes."""
    answers: list[Accepted | Refused] = []
    for start in range(0, len(events), BATCH):
        chunk = events[start : start + BATCH]
        accepted = await runtime.lanes.accept([(event, runtime.router.queue_of(event)) for event in chunk])
        failpoints.hit(FailPoint.AFTER_ACCEPT, subject=chunk[0].event_id)
        await runtime.waker.wake(await _to_wake(chunk, accepted, runtime))
        answers += accepted
    return answers


async def _to_wake(
    events: Sequence[Event], answers: Sequence[Accepted | Refused], runtime: GatewayRuntime
) -> list[Wake]:
    """The heads of lanes, without the turns that wait for a limit."""
    heads = [
        (event, answer.wake)
        for event, answer in zip(events, answers, strict=True)
        if isinstance(answer, Accepted) and answer.wake is not None
    ]
    light = [wake for event, wake in heads if not event.needs_turn]
    return [*light, *await runtime.usher.to_wake([head for head in heads if head[0].needs_turn])]


async def accept_one(event: Event, runtime: GatewayRuntime) -> Accepted:
    """Accept one event. Raises a 429 when its lane or the system is full, a 409 when it is rejected by its own wish."""
    [answer] = await accept_all([event], runtime)
    if isinstance(answer, Refused):
        raise refused(answer)
    return answer


async def check_same_request(event: Event, runtime: GatewayRuntime) -> None:
    """A duplicate by Idempotency-Key must be the same request; the first one stands. Raises a 422."""
    body = await runtime.lanes.body(event.event_id)
    if body is not None and json.loads(body)["data"] != event.data:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "Idempotency-Key was used before, with another body; use a new key for a new request",
        )


def acceptance_of(event: Event, answer: Accepted) -> Acceptance:
    """What the caller is told."""
    return Acceptance(id=answer.event_id, thread_id=event.thread_id, state=answer.state, duplicate=answer.duplicate)
