"""`/v1/sessions`: client secrets for pages, handed out by services."""

from typing import Any

from fastapi import APIRouter, Request

from schemas.sessions import Session, SessionRequest
from workers.gateway.auth import AnyService, Runtime
from workers.gateway.bodies import read_model

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": SessionRequest.model_json_schema()}},
    }
}


@router.post("", summary="A client secret for a user", openapi_extra=BODY)
async def create(request: Request, runtime: Runtime, _: AnyService) -> Session:
    """The service vouches for the user; the page presents the secret to `POST /chatkit`."""
    wanted = await read_model(request, SessionRequest)
    return runtime.minter.mint(wanted.user, wanted.tenant)
