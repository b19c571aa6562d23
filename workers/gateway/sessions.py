"""`/v1/sessions`: client secrets for pages, handed out by services."""

import asyncio
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request

from schemas.sessions import Session, SessionRequest
from workers.gateway.auth import AnyService, Runtime
from workers.gateway.bodies import read_model
from workers.lanes.connection import STATE_ERRORS
from workers.lanes.records import Owner

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])

LONGEST_SECONDS = 1.0

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": SessionRequest.model_json_schema()}},
    }
}


@router.post("", summary="A client secret for a user", openapi_extra=BODY)
async def create(request: Request, runtime: Runtime, _: AnyService) -> Session:
    """The service vouches for the user; the page presents the secret to `POST /chatkit`. What waited for the user to
    sign in again goes on."""
    wanted = await read_model(request, SessionRequest)
    with suppress(*STATE_ERRORS):  # a secret needs no Redis, and the alarms of what waits stand behind it
        async with asyncio.timeout(LONGEST_SECONDS):
            waiting = await runtime.lanes.sign_ins.signed_in([Owner(wanted.tenant, wanted.user)])
            await runtime.waker.wake(waiting)
    return runtime.minter.mint(wanted.user, wanted.tenant)
