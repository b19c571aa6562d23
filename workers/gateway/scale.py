"""`/v1/scale`: how many workers there should be, for KEDA and whoever else starts them."""

from fastapi import APIRouter, Response
from pydantic import BaseModel

from workers.autoscale.scale import Scaler
from workers.gateway.auth import AnyService, Runtime

router = APIRouter(prefix="/v1/scale", tags=["scale"])

REASON = "X-Scale-Reason"


class ScaleFigures(BaseModel):
    """`ready` events could run now, the first of them for `oldest_age_seconds`: what waits for a limit, a retry or its
    turn in its conversation could not. `running` of `capacity` slots are taken, in `workers` that take work."""

    ready: int
    running: int
    waiting_retry: int
    waiting_limit: int
    oldest_age_seconds: float
    capacity: int
    workers: int
    desired_workers: int


@router.get("", summary="How many workers there should be")
async def show(runtime: Runtime, _: AnyService, response: Response) -> ScaleFigures:
    """`desired_workers`: from `CHATKIT_SCALE_MIN` to `CHATKIT_SCALE_MAX`; the header `X-Scale-Reason` says why."""
    scale = await Scaler(runtime.settings, runtime.state, runtime.lanes).look()
    response.headers[REASON] = scale.decision.reason
    return ScaleFigures.model_validate(scale.record())
