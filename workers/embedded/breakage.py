"""What the playground can break while `up` runs: the worker that answers. Only the stack's gateway has this route."""

import os
from http import HTTPStatus

from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel

from workers.embedded.kills import ask_to_kill
from workers.gateway.auth import Runtime, User, owned_status
from workers.gateway.playground import check_local
from workers.gateway.problem import ProblemError
from workers.lanes.deployment import keys_of
from workers.lanes.standing import StandingLanes


class Killed(BaseModel):
    """The worker, and when another one goes on at the latest."""

    worker: str
    lease_seconds: float


def let_break(app: FastAPI, asking: int) -> None:
    """Add the route. `asking` is the descriptor of `KillRequests`."""
    os.set_inheritable(asking, False)  # of what the gateway itself may start, nobody is to have it
    router = APIRouter(include_in_schema=False)

    @router.post("/playground/kill/{event_id}", status_code=HTTPStatus.ACCEPTED)
    async def kill(event_id: str, request: Request, runtime: Runtime, user: User) -> Killed:
        """Kill the worker that runs an event of the caller's. 409: no worker does."""
        check_local(request)
        status, settings = await owned_status(event_id, user, runtime), runtime.settings
        standing = await StandingLanes(runtime.state, keys_of(settings)).standing(status.lane)
        if standing is None or standing.event_id != event_id or standing.worker is None:
            raise ProblemError(HTTPStatus.CONFLICT, "no worker runs it at the moment")
        ask_to_kill(asking, int(standing.worker.rpartition(":")[2]))
        return Killed(worker=standing.worker, lease_seconds=settings.lease.total_seconds())

    app.include_router(router)
    app.state.can_break = True
