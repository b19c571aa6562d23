"""Each reason of a dead letter, brought about on a real worker and read on the command line and over HTTP."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest
import redis

from schemas.events import Event
from schemas.outcome import DeadReason
from tests.builders import create_event, message_event
from tests.cli_process import cli
from tests.deployment import SERVICE, Deployment
from tests.eventually import eventually
from tests.integration.test_limits import _in
from tests.integration.test_worker import publish
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Status, Step, Tool

pytestmark = pytest.mark.redis


@dataclass(frozen=True)
class Case:
    """How an event comes to its end by what the provider says."""

    reason: DeadReason
    error: str
    steps: tuple[Step, ...]
    event: Callable[[], Event] = create_event


UI, INTEGRATION = Tool("transfer_to_ui_coordination_agent"), Tool("transfer_to_chatkit_integration_agent")

CASES = [
    Case(DeadReason.LOOP, "LoopError: handed over more than 5 times: ", (UI, INTEGRATION) * 3),
    Case(DeadReason.PERMANENT, "BadRequestError: HTTP 400", (Status(400),)),
    Case(DeadReason.ATTEMPTS_EXHAUSTED, "InternalServerError: HTTP 503", (Status(503), Status(503))),
    Case(
        DeadReason.AUTHENTICATION,
        "AuthenticationError: HTTP 401",
        (Status(401), Status(401)),  # the second time just before its deadline
        event=lambda: create_event(expirytime=_in(10)),
    ),
    # the last one: it opens the circuit
    Case(DeadReason.QUOTA, "RateLimitError: HTTP 429 insufficient_quota", (Status(429, code="insufficient_quota"),)),
]
QUICK = {"CHATKIT_TASK_POLICIES": '{"threads.create": {"max_attempts": 2, "backoff_base": 0.1}}'}


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    with Deployment(redis_url, sqlite_url, **provider.environment) as deployment:
        yield deployment


async def read(deployment: Deployment, http: httpx.AsyncClient, reason: DeadReason) -> str:
    """The error of the one letter of a reason, after both ways to read it have said the same."""

    async def there() -> list[dict[str, object]]:
        items: list[dict[str, object]] = (await http.get("/v1/dead", params={"reason": reason})).json()["items"]
        return items

    [letter] = await eventually(there, within=20) or []
    listed = await cli("dead", "list", "--json", "--reason", reason, env=deployment.process_environment())
    shown = await cli("dead", "show", "--json", "--body", str(letter["id"]), env=deployment.process_environment())
    assert listed.records == [letter]
    assert shown.records == [(await http.get(f"/v1/dead/{letter['id']}")).json()]
    assert shown.records[0]["body"]
    return str(letter["error"])


def reading(deployment: Deployment) -> httpx.AsyncClient:
    """A service at the gateway."""
    return httpx.AsyncClient(base_url=deployment.gateway(), headers=SERVICE)


async def test_a_dead_letter_says_why(deployment: Deployment, provider: FakeProvider) -> None:
    deployment.worker(**QUICK)
    async with reading(deployment) as http:
        for case in CASES:
            provider.plan(*case.steps)
            publish(deployment, case.event())
            assert (await read(deployment, http, case.reason)).startswith(case.error)
        client = redis.Redis.from_url(deployment.broker_url)
        client.xadd("ck:ingress", {"event": b'{"specversion": "1.0", "id": '})
        client.close()
        assert "JSON" in await read(deployment, http, DeadReason.INVALID)


async def test_a_bug_and_what_its_lane_has_no_room_for_are_there(deployment: Deployment) -> None:
    deployment.worker("tests.model_worker", CHATKIT_MAX_WAITING_PER_LANE="1", TEST_DELTA_MS="100", TEST_DELTAS="20")
    first = create_event("one")
    publish(deployment, first, message_event(str(first.thread_id), "two"), create_event("please stumble"))
    async with reading(deployment) as http:
        assert "holds as many waiting events as it may" in await read(deployment, http, DeadReason.OVERFLOW)
        assert (await read(deployment, http, DeadReason.BUG)).startswith("KeyError: at")
