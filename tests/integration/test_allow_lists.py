"""What a deployment does not allow, through a real gateway and worker: refused on every way in, and never run."""

import json
from collections.abc import Iterator

import httpx
import pytest

from schemas.events import parse_event
from tests.builders import request_event
from tests.deployment import SERVICE, Deployment, sign_in
from tests.eventually import eventually
from tests.integration.test_worker import publish

pytestmark = pytest.mark.redis

ACTIONS = {"ring": {"type": "object", "properties": {"times": {"type": "integer", "maximum": 3}}}}


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str) -> Iterator[Deployment]:
    with Deployment(redis_url, sqlite_url, CHATKIT_ACTIONS=json.dumps(ACTIONS)) as deployment:
        deployment.worker()
        yield deployment


async def test_an_action_that_does_not_fit_is_refused_by_http_and_buried_by_the_queue(deployment: Deployment) -> None:
    action = {"thread_id": "thr_1", "action": {"type": "ring", "payload": {"times": 9}}}
    request = {"type": "threads.custom_action", "params": action}
    effect = {"thread_id": "thr_1", "effect": {"name": "explode", "data": {"canary": "CANARY"}}}
    envelope = {"specversion": "1.0", "id": "1", "source": "/shop", "userid": "u1"}
    pushed = parse_event({**envelope, "type": "chatkit.action.send", "data": effect})
    async with httpx.AsyncClient(base_url=deployment.gateway(), timeout=30) as http:
        answer = await http.post("/chatkit", json=request, headers=await sign_in(http))
        assert (answer.status_code, answer.json()["errors"]) == (
            400,
            [
                {
                    "field": "params.action.payload.times",
                    "message": "does not fit the action's schema (maximum: 3)",
                }
            ],
        )
        answer = await http.post("/v1/events", content=pushed.to_json(), headers=SERVICE)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "data.effect.name")

        publish(deployment, pushed)
        publish(deployment, request_event("threads.custom_action", action))

        async def buried() -> list[dict[str, str]]:
            letters = (await http.get("/v1/dead", headers=SERVICE)).json()["items"]
            return letters if len(letters) == 2 else []

        letters = await eventually(buried)
    assert {letter["reason"] for letter in letters} == {"invalid"}
    errors = sorted(letter["error"] for letter in letters)
    assert errors == [
        "data.effect.name: is not allowed here; CHATKIT_ACTIONS allows ring",
        "data.params.action.payload.times: does not fit the action's schema (maximum: 3)",
    ]
