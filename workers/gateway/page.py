"""The module for pages with a ChatKit element: one JavaScript file, as it is, with no build step."""

from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

router = APIRouter(include_in_schema=False)

MODULE = "chatkit-workers.js"
HEADERS = {"Cache-Control": "no-cache"}
"""A page asks anew each time it is loaded: after a deploy it must not go on with an older module."""


@router.get(f"/{MODULE}")
async def module() -> Response:
    """The module."""
    return Response(_text(), headers=HEADERS, media_type="text/javascript")


@cache
def _text() -> str:
    return (files("workers.gateway") / MODULE).read_text(encoding="utf-8")
