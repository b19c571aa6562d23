"""Reading request bodies, bounded in size and time before anything is parsed."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from schemas.errors import EventTooLargeError, FieldProblem, InvalidEventError
from schemas.events import decode_json
from schemas.wording import problems_of
from workers.gateway.problem import ProblemError

DEADLINE = timedelta(seconds=30)
"""How long a client may take to send a body."""

DISCARD_BYTES = 64 * 1024 * 1024

SMALL_BYTES = 16 * 1024
"""Bound of the bodies of our own small models."""

Model = TypeVar("Model", bound=BaseModel)


async def read_model(request: Request, model: type[Model]) -> Model:
    """A small JSON body. Raises what `read_body` raises, and `InvalidEventError` naming each wrong field."""
    fields = await read_json(request, SMALL_BYTES)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _of_body(problems_of(error, fields)) from None


async def read_json(request: Request, limit_bytes: int) -> Any:
    """A JSON body that is no event. Raises what `read_body` raises, and `InvalidEventError` naming `body`."""
    raw = await read_body(request, limit_bytes)
    try:
        return decode_json(raw, max_bytes=limit_bytes)
    except InvalidEventError as error:
        raise _of_body(error.problems) from None


def media_type(request: Request) -> str:
    """What the body is said to be, without parameters; empty when nothing is said."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The body.

    Raises:
        EventTooLargeError: it says that it is larger, or turns out to be (chunked bodies say nothing).
        ProblemError: 408, it did not come in time; 400, it broke off.
    """
    chunks: list[bytes] = []
    size = 0
    stream = request.stream()
    try:
        async with asyncio.timeout(DEADLINE.total_seconds()):
            if _declared(request) > limit_bytes:
                if "Expect" not in request.headers:  # that client waits for our word before it sends the body
                    await _discard(stream)
                raise EventTooLargeError(_declared(request), limit_bytes)
            async for chunk in stream:
                size += len(chunk)
                if size > limit_bytes:
                    raise EventTooLargeError(size + await _discard(stream), limit_bytes)
                chunks.append(chunk)
    except TimeoutError:
        raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, "the body did not come in time") from None
    except ClientDisconnect:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the body did not come to its end") from None
    return b"".join(chunks)


def _of_body(problems: Iterable[FieldProblem]) -> InvalidEventError:
    """What is wrong with the whole of it is said of the `event` elsewhere; here nobody has sent one."""
    return InvalidEventError(
        [FieldProblem("body" if item.field == "event" else item.field, item.message) for item in problems]
    )


def _declared(request: Request) -> int:
    length = request.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else 0


async def _discard(stream: AsyncIterator[bytes]) -> int:
    """Throw away what the client still sends, within bounds: most clients read no answer before they have sent
    everything, and would see a broken connection instead of the refusal. Gives the number of bytes."""
    discarded = 0
    async for chunk in stream:
        discarded += len(chunk)
        if discarded > DISCARD_BYTES:
            break
    return discarded
