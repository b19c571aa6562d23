"""The playground: one page to talk to the deployment from the machine it runs on. Off with CHATKIT_PLAYGROUND=0."""

import ipaddress
import re
import secrets
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, StringConstraints
from starlette.responses import HTMLResponse, Response

from schemas.sessions import Session
from workers.gateway.auth import Runtime
from workers.gateway.bodies import read_model
from workers.gateway.page import HEADERS
from workers.gateway.problem import ProblemError, not_found
from workers.settings import Settings

router = APIRouter(include_in_schema=False)

TENANT = "playground"
USER = "guest-"
FOLDER = files("workers.gateway") / "playground_page"
MEDIA_TYPES = {"js": "text/javascript", "css": "text/css"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page runs its own scripts, loads nothing from elsewhere and is framed by nobody."""
LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)


class Guest(BaseModel):
    """Which guest the page was before it was loaded again; a new one when it says nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    user: Annotated[str, StringConstraints(pattern=rf"^{USER}[0-9a-f]{{16}}$")] | None = None


class GuestSession(Session):
    """A client secret, the guest that it is for, and what the page can show of this deployment.

    `can_break`: whether it may kill the worker that answers (`workers.embedded.breakage`). `narrow_model`: a model that
    a message may ask for and that lets few requests through.
    """

    user: str
    scripted: bool
    can_break: bool
    narrow_model: str | None


@router.get("/", response_class=HTMLResponse)
async def page() -> HTMLResponse:
    """The page."""
    return HTMLResponse(_text_of("index.html"), headers={**HEADERS, "Content-Security-Policy": POLICY})


@router.get("/playground/{name}")
async def part(name: str) -> Response:
    """A script or the style of the page."""
    media_type = MEDIA_TYPES.get(name.rpartition(".")[2])
    if media_type is None or name not in _parts():
        raise not_found("page")
    return Response(_text_of(name), headers=HEADERS, media_type=media_type)


@router.post("/playground/session")
async def session(request: Request, runtime: Runtime) -> GuestSession:
    """A client secret for a guest, in a tenant of its own: no real user can be impersonated."""
    check_local(request)
    guest = await read_model(request, Guest)
    user = guest.user or USER + secrets.token_hex(8)
    return GuestSession(
        user=user,
        scripted=runtime.settings.scripted,
        can_break=getattr(request.app.state, "can_break", False),
        narrow_model=_narrow_model(runtime.settings),
        **dict(runtime.minter.mint(user, TENANT)),
    )


def check_local(request: Request) -> None:
    """Only a page that this machine's browser loaded from here may have one.

    The name in Host is checked too: a foreign page may point its own name at 127.0.0.1 (DNS rebinding). So is Origin:
    a foreign page may post here. A forwarded request comes from a proxy, whose callers may be anybody.
    """
    host = request.headers.get("Host", "")  # of one that it cannot read, Starlette's URL says that it is this server
    origin = request.headers.get("Origin")
    peer = request.client.host if request.client else ""
    forwarded = any(name in request.headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-IP"))
    same_origin = origin is None or origin == f"{request.url.scheme}://{host}"
    if not (_is_loopback(peer) and LOCAL_HOST.fullmatch(host) and same_origin and not forwarded):
        raise ProblemError(HTTPStatus.FORBIDDEN, "the playground serves only the machine that the gateway runs on")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _narrow_model(settings: Settings) -> str | None:
    """Only where trying it costs nothing."""
    models = settings.limits.models if settings.scripted else {}
    return next((name for name in sorted(settings.choosable_models) if name in models and models[name].rpm), None)


@cache
def _parts() -> frozenset[str]:
    return frozenset(part.name for part in FOLDER.iterdir())


@cache
def _text_of(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
