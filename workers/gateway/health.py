"""Liveness, readiness, metrics."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import prometheus_client
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from workers.broker import reach_broker
from workers.gateway.auth import Runtime
from workers.gateway.figures import figures_of
from workers.gateway.ports import GatewayRuntime
from workers.lanes.keys import Keys

log = logging.getLogger(__name__)

router = APIRouter(tags=["health"])

PROBE = timedelta(seconds=2)
"""How long a part may take to answer."""

PROBE_KEPT = timedelta(minutes=1)

FRESH = timedelta(seconds=1)
"""How long an answer stands: whoever asks often must not keep the parts busy."""

Probe = Callable[[], Awaitable[object]]


@router.get("/healthz", summary="Liveness")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", summary="Readiness")
async def readyz(request: Request) -> Response:
    """Whether broker, state and database can be used: 200, or 503 with the parts that cannot."""
    readiness: Readiness = request.app.state.readiness
    parts = await readiness.parts()
    ready = all(answer == "ok" for answer in parts.values())
    body = {"status": "ok" if ready else "unavailable", **parts}
    return JSONResponse(body, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)


@router.get("/metrics", summary="Prometheus")
async def metrics(runtime: Runtime) -> Response:
    """The metrics of the deployment, and those of this process."""
    content = prometheus_client.generate_latest() + await figures_of(runtime)
    return Response(content, media_type=prometheus_client.CONTENT_TYPE_LATEST)


class Readiness:
    """Asks the parts together, each within a bound, at most once a second."""

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self._probes = probes
        self._parts: dict[str, str] = {}
        self._asked = float("-inf")
        self._asking = asyncio.Lock()

    async def parts(self) -> dict[str, str]:
        """`ok`, or the class of the error, of each part."""
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if now - self._asked > FRESH.total_seconds():
                answers = await asyncio.gather(*(self._ask(name, probe) for name, probe in self._probes.items()))
                self._parts, self._asked = dict(zip(self._probes, answers, strict=True)), now
            return self._parts

    async def _ask(self, name: str, probe: Probe) -> str:
        try:
            async with asyncio.timeout(PROBE.total_seconds()):
                await probe()
        except Exception as error:  # noqa: BLE001  # whatever a client raises, the part is not ready
            log.warning("not_ready", extra={"part": name, "error": type(error).__name__})
            return type(error).__name__
        return "ok"


def readiness_of(runtime: GatewayRuntime) -> Readiness:
    """The parts of a gateway."""
    state: Any = runtime.state
    probe = Keys(runtime.settings.prefix, runtime.settings.shards).probe

    async def write() -> None:
        """Not a ping, which a replica and a full Redis answer as well."""
        await state.set(probe, 1, px=PROBE_KEPT)

    return Readiness(
        {
            "state": write,
            # kombu blocks; its time-outs end the thread that nobody waits for any more
            "broker": lambda: asyncio.to_thread(reach_broker, runtime.settings.broker_url, PROBE),
            "database": runtime.database.ping,
        }
    )
