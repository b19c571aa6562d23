"""Errors as RFC 9457 problem+json: one shape for every failure, and nothing of the program inside."""

import json
import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from redis.exceptions import OutOfMemoryError, RedisError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from schemas.errors import EventTooLargeError, InvalidEventError, WorkersError
from workers.errors import CallError, DatabaseError, NotFoundError, PermanentError
from workers.lanes.records import Refused
from workers.sessions.tokens import TokenCode, TokenError
from workers.streams.records import StreamGoneError, UnknownFrameError

log = logging.getLogger(__name__)

AWAY_SECONDS = 2
"""When to try again while the state or the database is away."""

FULL_SECONDS = 10
"""When to try again while the state is full: an operator has to act."""


class ProblemError(Exception):
    """A request that gets an error answer. `members` go into the body beside `title`, `status` and `detail`."""

    def __init__(
        self, status: HTTPStatus, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.headers, self.members = dict(headers or {}), members

    def response(self) -> Response:
        return problem(self.status, self.detail, headers=self.headers, **self.members)


def problem(status: HTTPStatus, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> Response:
    """The answer itself."""
    body = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail, **members}
    return Response(json.dumps(body), status, headers, media_type="application/problem+json")


def unauthorized(code: TokenCode, detail: str) -> ProblemError:
    """401; the body's `code` tells a page whether to refresh or to sign in again."""
    return ProblemError(
        HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": 'Bearer realm="chatkit"'}, code=code.value
    )


def not_found(what: str) -> ProblemError:
    """404, also for what belongs to somebody else."""
    return ProblemError(HTTPStatus.NOT_FOUND, f"no such {what}")


def refused(answer: Refused) -> ProblemError:
    """429 of a full lane or system; 409 of an event that asked to be rejected while its conversation is busy."""
    if answer.reason == "busy":
        detail = "this conversation is being answered, and the request asked to be rejected then"
        return ProblemError(HTTPStatus.CONFLICT, detail, reason=answer.reason, event_id=answer.by)
    what = "this conversation has" if answer.reason == "lane_full" else "there are"
    return ProblemError(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"{what} too many waiting events; try again later",
        headers=retry_after(answer.retry_after_seconds),
        reason=answer.reason,
    )


def retry_after(seconds: float) -> dict[str, str]:
    """The header, in whole seconds."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def invalid(error: InvalidEventError) -> ProblemError:
    """400 naming each wrong field, or 413."""
    if isinstance(error, EventTooLargeError):
        return ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error))
    errors = [{"field": item.field, "message": item.message} for item in error.problems]
    return ProblemError(HTTPStatus.BAD_REQUEST, str(error), errors=errors)


def of_error(error: Exception) -> ProblemError:
    """What a caller is told of an error of ours."""
    match error:
        case ProblemError():
            return error
        case TokenError():
            return unauthorized(error.code, str(error))
        case InvalidEventError():
            return invalid(error)
        case UnknownFrameError():
            return ProblemError(HTTPStatus.BAD_REQUEST, f"Last-Event-ID {error}")
        case NotFoundError() | StreamGoneError():
            return not_found("event" if isinstance(error, StreamGoneError) else "thread, item or attachment")
        case PermanentError():
            return ProblemError(HTTPStatus.BAD_REQUEST, str(error))
        case OutOfMemoryError():
            log.error("request_failed", extra={"error": type(error).__name__})
            detail = "the queue has no memory left; try again later"
            return ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=retry_after(FULL_SECONDS), reason="memory_full"
            )
        case RedisError() | DatabaseError() | ConnectionError() | TimeoutError():
            log.warning("request_failed", extra={"error": type(error).__name__})
            away = "the conversations" if isinstance(error, DatabaseError) else "the queue"
            detail = f"{away} cannot be reached at the moment"
            return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=retry_after(AWAY_SECONDS))
        case CallError():  # of a service behind us: OpenAI, where it hosts the sessions
            log.warning("request_failed", extra={"error": error.kind})
            return ProblemError(HTTPStatus.BAD_GATEWAY, str(error), headers=retry_after(AWAY_SECONDS))
        case _:
            # the server logs it: Starlette raises it again when this has been sent
            return ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong here; it has been logged")


MAPPED = (
    WorkersError,
    ProblemError,
    RedisError,
    ConnectionError,
    TimeoutError,
    Exception,
)


def install(app: FastAPI) -> None:
    """Answer every error of the app as a problem."""
    for kind in MAPPED:
        app.add_exception_handler(kind, _handled)
    app.add_exception_handler(HTTPException, _routing)
    app.add_exception_handler(RequestValidationError, _validation)


async def _handled(_: Request, error: Exception) -> Response:
    return of_error(error).response()


async def _routing(_: Request, error: Exception) -> Response:
    """Unknown path, wrong method."""
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for nothing else
    return problem(HTTPStatus(error.status_code), str(error.detail), headers=error.headers)


async def _validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for nothing else
    errors = [{"field": ".".join(map(str, item["loc"])), "message": item["msg"]} for item in error.errors()]
    return problem(HTTPStatus.BAD_REQUEST, "the request is not valid", errors=errors)
