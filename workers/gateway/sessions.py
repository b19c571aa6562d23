"""`/v1/sessions`: client secrets for pages, handed out for users that a service vouches for, refreshed by the pages."""

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from schemas.events import DEFAULT_TENANT
from schemas.names import Name
from schemas.records import PageState
from schemas.sessions import RefreshRequest, Session, SessionRequest
from workers.gateway import cookies
from workers.gateway.auth import AnyCaller, AnyService, Runtime
from workers.gateway.bodies import read_model
from workers.gateway.ports import GatewayRuntime
from workers.gateway.problem import not_found, of_error, unauthorized
from workers.lanes.connection import STATE_ERRORS
from workers.lanes.records import Owner
from workers.sessions.ids import belongs_to
from workers.sessions.tokens import Identity, TokenCode, TokenError

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])

LONGEST_SECONDS = 1.0
UNSTORED = {"Cache-Control": "no-store"}
"""Of answers that hold secrets."""


def body(model: type[BaseModel]) -> dict[str, Any]:
    """The description of a request's body, which is read by us and not by FastAPI: bounded before it is parsed."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


@router.post("", summary="A client secret for a user", response_model=Session, openapi_extra=body(SessionRequest))
async def create(request: Request, runtime: Runtime, _: AnyService) -> Response:
    """The service vouches for the user; the page presents the secret to `POST /chatkit`. What waited for the user to
    sign in again goes on."""
    wanted = await read_model(request, SessionRequest)
    if wanted.cookie:
        cookies.check_mode(runtime.settings)
    owner = Owner(wanted.tenant, wanted.user)
    session = await runtime.sessions.start(owner)
    await _signed_in(owner, runtime)
    return _answer(session, runtime, in_cookie=wanted.cookie)


@router.post("/refresh", summary="The next client secret", response_model=Session, openapi_extra=body(RefreshRequest))
async def refresh(request: Request, runtime: Runtime) -> Response:
    """Spends a refresh token, of the body or of the cookie, for a client secret and the next refresh token."""
    wanted = await read_model(request, RefreshRequest)
    kept = cookies.cookie_of(request) if wanted.refresh_token is None else None
    in_cookie = wanted.cookie or kept is not None
    if in_cookie:
        cookies.check_page(request, runtime.settings)
    token = wanted.refresh_token or kept
    if token is None:
        raise unauthorized(TokenCode.INVALID, "a refresh token is needed, in the body or as a cookie")
    try:
        return _answer(await runtime.sessions.refresh(token), runtime, in_cookie=in_cookie)
    except TokenError as error:
        refusal = of_error(error)
        refusal.headers |= UNSTORED | (cookies.clearing() if kept is not None else {})
        raise refusal from None


@router.get("/{session_id}", summary="What a session's page said last")
async def show(session_id: Name, runtime: Runtime, caller: AnyCaller, tenant: Name = DEFAULT_TENANT) -> PageState:
    """Its open thread, whether it is ready, and the name of its last error. A user's client secret shows the user's own
    sessions; a service says of which tenant. A page that is loaded again says it anew."""
    found = await runtime.pages.find(caller.tenant if isinstance(caller, Identity) else tenant, session_id)
    if found is None or (isinstance(caller, Identity) and found.user != caller.user):
        raise not_found("session")
    return found


@router.delete("/{session_id}", summary="End a session", status_code=HTTPStatus.NO_CONTENT)
async def end(session_id: str, request: Request, runtime: Runtime, caller: AnyCaller) -> Response:
    """Its client secrets and its refresh token are refused from now on, and what it has in the queue is not
    answered."""
    if isinstance(caller, Identity) and not belongs_to(session_id, Owner(caller.tenant, caller.user)):
        raise not_found("session")
    await runtime.sessions.end(session_id)
    answer = Response(status_code=HTTPStatus.NO_CONTENT)
    if cookies.cookie_of(request) is not None:
        cookies.clear_cookie(answer)
    return answer


async def _signed_in(owner: Owner, runtime: GatewayRuntime) -> None:
    """Wake what waited for it. The alarms of what waits stand behind this."""
    with suppress(*STATE_ERRORS):
        async with asyncio.timeout(LONGEST_SECONDS):
            await runtime.waker.wake(await runtime.lanes.sign_ins.signed_in([owner]))


def _answer(session: Session, runtime: GatewayRuntime, *, in_cookie: bool) -> Response:
    """The session as JSON; its refresh token in a cookie, where it is to be there."""
    shown = session.model_copy(update={"refresh_token": None}) if in_cookie else session
    answer = Response(shown.model_dump_json(), headers=UNSTORED, media_type="application/json")
    if in_cookie and session.refresh_token is not None:
        cookies.set_cookie(answer, session.refresh_token, runtime.settings)
    return answer
