"""The playground: one page to talk to the deployment from the machine it runs on. Off with CHATKIT_PLAYGROUND=0."""

import base64
import hashlib
import ipaddress
import re
import secrets
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, StringConstraints
from starlette.responses import HTMLResponse

from schemas.sessions import Session
from workers.gateway.auth import Runtime
from workers.gateway.bodies import read_model
from workers.gateway.problem import ProblemError

router = APIRouter(include_in_schema=False)

TENANT = "playground"
USER = "guest-"
LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)


class Guest(BaseModel):
    """Which guest the page was before it was loaded again; a new one when it says nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    user: Annotated[str, StringConstraints(pattern=rf"^{USER}[0-9a-f]{{16}}$")] | None = None


class GuestSession(Session):
    """A client secret, and the guest that it is for."""

    user: str


@router.get("/", response_class=HTMLResponse)
async def page() -> HTMLResponse:
    """The page."""
    text, policy = _page()
    return HTMLResponse(text, headers={"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})


@router.post("/playground/session")
async def session(request: Request, runtime: Runtime) -> GuestSession:
    """A client secret for a guest, in a tenant of its own: no real user can be impersonated."""
    _check_local(request)
    guest = await read_model(request, Guest)
    user = guest.user or USER + secrets.token_hex(8)
    return GuestSession(user=user, **dict(runtime.minter.mint(user, TENANT)))


def _check_local(request: Request) -> None:
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


@cache
def _page() -> tuple[str, str]:
    """The page, and a policy that lets it run its own script, load nothing from elsewhere and be framed by nobody."""
    text = (files("workers.gateway") / "playground.html").read_text(encoding="utf-8")
    script = text.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; connect-src 'self';"
        " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy
