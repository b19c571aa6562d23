"""Reading request bodies, bounded in size and time before anything is parsed."""

import asyncio
from datetime import timedelta
from http import HTTPStatus
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from schemas.errors import EventTooLargeError, FieldProblem, InvalidEventError
from schemas.events import decode_json
from workers.gateway.problem import ProblemError

DEADLINE = timedelta(seconds=30)
"""How long a client may take to send a body."""

SMALL_BYTES = 16 * 1024
"""Bound of the bodies of our own small models."""

Model = TypeVar("Model", bound=BaseModel)


async def read_model(request: Request, model: type[Model]) -> Model:
    """A small JSON body. Raises what `read_body` raises, and `InvalidEventError` naming each wrong field."""
    fields = decode_json(await read_body(request, SMALL_BYTES), max_bytes=SMALL_BYTES)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        problems = [FieldProblem(".".join(map(str, item["loc"])) or "body", item["msg"]) for item in details]
        raise InvalidEventError(problems) from None


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The body.

    Raises:
        EventTooLargeError: it says that it is larger, or turns out to be (chunked bodies say nothing).
        ProblemError: 408, it did not come in time.
    """
    declared = request.headers.get("Content-Length", "")
    if declared.isdecimal() and int(declared) > limit_bytes:
        raise EventTooLargeError(int(declared), limit_bytes)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(DEADLINE.total_seconds()):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit_bytes:
                    raise EventTooLargeError(size, limit_bytes)
                chunks.append(chunk)
    except TimeoutError:
        raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, "the body did not come in time") from None
    except ClientDisconnect:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the body did not come to its end") from None
    return b"".join(chunks)
