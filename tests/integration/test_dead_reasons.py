"""Each reason of a dead letter, brought about on a real worker and read on the command line and over HTTP."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx
import pytest
import redis

from schemas.events import Event
from schemas.outcome import DeadReason
from tests.builders import create_event, message_event
from tests.cli_process import cli
from tests.deployment import SERVICE, Deployment
from tests.eventually import eventually
from tests.fake_provider import FakeProvider, Hang, Status, Step
from tests.integration.test_limits import _in
from tests.integration.test_worker import publish

pytestmark = pytest.mark.redis


@dataclass(frozen=True)
class Case:
    """How an event comes to its end: what the provider says, or what its worker does."""

    reason: DeadReason
    error: str
    steps: tuple[Step, ...] = ()
    app: str = "workers.app"
    event: Callable[[], Event] = create_event
    settings: dict[str, str] = field(default_factory=dict)


CASES = [
    Case(DeadReason.PERMANENT, "BadRequestError: HTTP 400", (Status(400),)),
    Case(
        DeadReason.ATTEMPTS_EXHAUSTED,
        "InternalServerError: HTTP 503",
        (Status(503), Status(503)),
        settings={"CHATKIT_TASK_POLICIES": '{"threads.create": {"max_attempts": 2, "backoff_base": 0.1}}'},
    ),
    Case(DeadReason.QUOTA, "RateLimitError: HTTP 429 insufficient_quota", (Status(429, code="insufficient_quota"),)),
    Case(
        DeadReason.AUTHENTICATION,
        "AuthenticationError: HTTP 401",
        (Status(401),),
        event=lambda: create_event(expirytime=_in(10)),
    ),
    Case(DeadReason.BUG, "KeyError: at", app="tests.model_worker", event=lambda: create_event("please stumble")),
]


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    with Deployment(
        redis_url, sqlite_url, OPENAI_BASE_URL=provider.base_url, OPENAI_API_KEY="sk-of-no-value"
    ) as deployment:
        yield deployment


async def read(deployment: Deployment, reason: DeadReason) -> str:
    """The error of the one letter of a reason, after both ways to read it have said the same."""

    async def listed() -> list[dict[str, object]]:
        found = await cli("dead", "list", "--json", "--reason", reason, env=deployment.process_environment())
        return found.records

    assert await eventually(listed, within=20)
    [letter] = await listed()
    shown = await cli("dead", "show", "--json", "--body", str(letter["id"]), env=deployment.process_environment())
    async with httpx.AsyncClient(base_url=deployment.gateway(), headers=SERVICE) as http:
        assert (await http.get("/v1/dead", params={"reason": reason})).json() == {"items": [letter], "next": None}
        assert [(await http.get(f"/v1/dead/{letter['id']}")).json()] == shown.records
    assert shown.records[0]["body"]
    return str(letter["error"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.reason)
async def test_a_dead_letter_says_why(deployment: Deployment, provider: FakeProvider, case: Case) -> None:
    deployment.worker(case.app, **case.settings)
    provider.plan(*case.steps)
    publish(deployment, case.event())
    assert (await read(deployment, case.reason)).startswith(case.error)


async def test_what_never_parsed_is_there_with_its_bytes(deployment: Deployment) -> None:
    deployment.worker()
    client = redis.Redis.from_url(deployment.broker_url)
    client.xadd("ck:ingress", {"event": b'{"specversion": "1.0", "id": '})
    client.close()
    assert "JSON" in await read(deployment, DeadReason.INVALID)


async def test_what_its_lane_has_no_room_for_is_there(deployment: Deployment, provider: FakeProvider) -> None:
    deployment.worker(CHATKIT_MAX_WAITING_PER_LANE="1")
    provider.plan(Hang())
    first = create_event("one")
    publish(deployment, first, message_event(str(first.thread_id), "two"))
    assert "holds as many waiting events as it may" in await read(deployment, DeadReason.OVERFLOW)
