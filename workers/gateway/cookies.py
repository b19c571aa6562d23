"""The refresh token in a cookie, where no script of a page can read it, and what keeps other sites from using it.

The cookie belongs to this host alone (`__Host-`), goes over HTTPS only, and never with a request of another site. Old
browsers, and pages of other hosts of the same site, are why a request that uses or sets it must also carry a header
that no form can send, and come from an origin on the list. Setting it counts: else a foreign page could sign a user in
as somebody else.
"""

from http import HTTPStatus

from fastapi import Request
from starlette.responses import Response

from workers.gateway.problem import ProblemError
from workers.settings import Settings

NAME = "__Host-chatkit-refresh"
CSRF_HEADER = "X-ChatKit-CSRF"


def cookie_of(request: Request) -> str | None:
    """The refresh token that the browser keeps, if it sent one."""
    return request.cookies.get(NAME)


def check_mode(settings: Settings) -> None:
    """Raises a 400 where no page may use a cookie."""
    if not settings.page_origins:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "cookies are off here: CHATKIT_COOKIE_ORIGINS names no page")


def check_page(request: Request, settings: Settings) -> None:
    """Raises a 400 where cookies are off, a 403 for a request that may come from a page of somebody else."""
    check_mode(settings)
    if CSRF_HEADER not in request.headers:
        raise ProblemError(HTTPStatus.FORBIDDEN, f"the header {CSRF_HEADER} is missing")
    if request.headers.get("Origin") not in settings.page_origins:
        raise ProblemError(HTTPStatus.FORBIDDEN, "the header Origin names no page of CHATKIT_COOKIE_ORIGINS")


def set_cookie(response: Response, refresh_token: str, settings: Settings) -> None:
    """Let the browser keep the refresh token, as long as it is good unless it is used."""
    response.set_cookie(
        NAME, refresh_token, settings.session_idle_ttl, path="/", secure=True, httponly=True, samesite="strict"
    )


def clear_cookie(response: Response) -> None:
    """Let the browser forget it."""
    response.delete_cookie(NAME, path="/", secure=True, httponly=True, samesite="strict")


def clearing() -> dict[str, str]:
    """The header that does so, for an error."""
    response = Response()
    clear_cookie(response)
    return {"Set-Cookie": response.headers["Set-Cookie"]}
