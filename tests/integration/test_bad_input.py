"""What goes wrong at a user's hands or around the product: each a clear answer, nothing lost, no traceback."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis.asyncio
from celery import Celery
from sqlalchemy import make_url

from schemas.outcome import DeadReason, EventState
from tests.builders import create_event, user_input
from tests.cli_process import cli, settings
from tests.deployment import SERVICE, Deployment, sign_in
from tests.eventually import eventually
from tests.integration.tcp_proxy import TcpProxy
from tests.services import RedisServer
from tests.worker_process import READY, WorkerProcess
from workers.publisher import Publisher

pytestmark = pytest.mark.redis

STRUCTURED = {"Content-Type": "application/cloudevents+json"}

GOOD: dict[str, Any] = json.loads(create_event("hello").to_json())
WITHOUT_ID = {name: value for name, value in GOOD.items() if name != "id"}

BAD: dict[str, tuple[Any, int, str]] = {
    "unknown type": ({**GOOD, "type": "chatkit.threads.craete"}, 400, "did you mean chatkit.threads.create"),
    "missing id": (WITHOUT_ID, 400, "id"),
    "wrong data": ({**GOOD, "data": {"type": "threads.create", "params": {}}}, 400, "data.params.input"),
    "5 MB": ({**GOOD, "data": {"text": "x" * 5_000_000}}, 413, "bytes"),
    "not JSON": (b"{'id': 1}", 400, "not JSON"),
    "bad UTF-8": (b'{"id": "\xff"}', 400, "UTF-8"),
}


def as_bytes(bad: Any) -> bytes:
    return bad if isinstance(bad, bytes) else json.dumps(bad).encode()


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str) -> Iterator[Deployment]:
    with Deployment(redis_url, sqlite_url) as deployment:
        yield deployment


@pytest.fixture
async def http(deployment: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=deployment.gateway(), timeout=60) as client:
        yield client


async def ends(deployment: Deployment, event_id: str, within: float = 20) -> EventState:
    async with deployment.lanes() as lanes:

        async def state() -> EventState | None:
            found = await lanes.status(event_id)
            return found[0].state if found is not None and found[0].ended_at is not None else None

        ended = await eventually(state, within=within)
    assert ended is not None
    return ended


def no_traceback(*workers: WorkerProcess) -> None:
    for worker in workers:
        assert worker.exit_code is None, worker.stderr[-2000:]
        assert "Traceback" not in worker.stderr, worker.stderr[-4000:]


async def test_over_http_each_is_refused_with_its_field_and_remedy(http: httpx.AsyncClient) -> None:
    for name, (bad, status, words) in BAD.items():
        answer = await http.post("/v1/events", content=as_bytes(bad), headers=SERVICE | STRUCTURED)
        assert (name, answer.status_code) == (name, status), answer.text
        assert words in answer.text, (name, answer.text)
        assert "Traceback" not in answer.text
    user = await sign_in(http)
    for bad, status in [(b"{", 400), (b'"\xff"', 400), (b"[]", 400), (b'{"type":"threads.fly"}', 400)]:
        answer = await http.post("/chatkit", content=bad, headers=user)
        assert (bad, answer.status_code) == (bad, status), answer.text
        assert answer.json()["detail"]


@pytest.mark.rabbitmq
async def test_from_the_queue_each_is_kept_with_its_reason_and_the_queue_goes_on(
    deployment: Deployment, rabbitmq_url: str
) -> None:
    on_redis = deployment.worker("tests.model_worker")
    on_rabbitmq = deployment.worker("tests.model_worker", CHATKIT_BROKER_URL=rabbitmq_url)
    good = [create_event("hello") for _ in range(3)]
    bodies = [as_bytes(bad) for bad, _, _ in BAD.values()]

    async with redis.asyncio.Redis.from_url(deployment.broker_url) as raw:
        for body in [*bodies, good[0].to_json().encode()]:
            await raw.xadd("ck:ingress", {"event": body})
    celery = Celery(broker=deployment.broker_url, set_as_current=False)
    values = [bad for bad, _, _ in BAD.values() if not isinstance(bad, bytes)]
    for value in [*values, json.loads(good[1].to_json())]:
        await asyncio.to_thread(celery.send_task, "chatkit.ingest", [value], queue="chatkit.events")
    celery.close()
    await asyncio.to_thread(
        publish_plain, rabbitmq_url, [*(b" " + body for body in bodies), good[2].to_json().encode()]
    )

    for event in good:
        assert await ends(deployment, event.event_id) is EventState.DONE
    async with deployment.lanes() as lanes:
        letters = (await lanes.dead_letters.page()).items
    assert len(letters) == 2 * len(bodies) + len(values)
    assert {letter.reason for letter in letters} == {DeadReason.INVALID}
    for name, (bad, _, words) in BAD.items():
        told = [letter for letter in letters if words in (letter.error or "")]
        assert len(told) >= (2 if isinstance(bad, bytes) else 3), (name, [letter.error for letter in letters])
    no_traceback(on_redis, on_rabbitmq)


ACTION = {"item_id": "wid_1", "action": {"type": "press", "payload": {}}}

DEEP = {"deep": json.loads("[" * 500 + "]" * 500)}
CALLS: list[tuple[list[Any], dict[str, Any]]] = [
    ([json.dumps(GOOD)], {}),
    ([None], {}),
    ([3], {}),
    ([[]], {}),
    ([[None, 3, [], "text", DEEP]], {}),
    ([], {}),
    ([GOOD, GOOD], {}),
    ([], {"events": [GOOD]}),
    ([GOOD], {"priority": 1}),
]
"""Arguments of `chatkit.ingest` of which each is no event, or none that could be found."""


async def test_whatever_the_ingest_task_is_called_with_is_taken_or_kept(deployment: Deployment) -> None:
    worker = deployment.worker("tests.model_worker")
    first, second, third = (create_event("hello") for _ in range(3))
    good = [json.loads(event.to_json()) for event in (first, second, third)]
    celery = Celery(broker=deployment.broker_url, set_as_current=False)
    for args, kwargs in [*CALLS, ([[good[0], None, 3, [], good[1]]], {}), ([], {"event": good[2]})]:
        await asyncio.to_thread(celery.send_task, "chatkit.ingest", args, kwargs, queue="chatkit.events")
    celery.close()
    for event in (first, second, third):
        assert await ends(deployment, event.event_id) is EventState.DONE

    async with deployment.lanes() as lanes:
        listed = (await lanes.dead_letters.page()).items
        letters = [letter for one in listed if (letter := await lanes.dead_letters.get(one.id)) is not None]
    assert {letter.source for letter in letters} == {"task chatkit.ingest"}
    kept = sorted(json.dumps(json.loads(base64.b64decode(letter.body or ""))) for letter in letters)
    called_wrongly = [[args, kwargs] for args, kwargs in CALLS[5:]]
    # what is the same is kept once
    assert kept == sorted(map(json.dumps, [json.dumps(GOOD), None, 3, [], "text", DEEP, *called_wrongly]))
    no_traceback(worker)


def publish_plain(url: str, bodies: list[bytes]) -> None:
    """As a service in any language does: bytes to the exchange."""
    with Publisher(url) as publisher:  # it declares what is needed, on either side
        publisher.publish(create_event("first"))
    app = Celery(broker=url, set_as_current=False)
    app.conf.broker_transport_options = {"confirm_publish": True}  # a quorum queue promises nothing without
    with app.connection_for_write() as connection, connection.channel() as channel:
        for body in bodies:
            channel.basic_publish(
                channel.prepare_message(body, content_type="application/cloudevents+json"),
                exchange="chatkit.events",
                routing_key="chatkit.threads.create",
            )


async def test_a_wrong_token_and_another_users_thread(deployment: Deployment, http: httpx.AsyncClient) -> None:
    worker = deployment.worker("tests.model_worker")
    mine = await sign_in(http)
    body = {"type": "threads.create", "params": {"input": user_input("hello")}}
    answer = await http.post("/chatkit", json=body, headers=mine)
    thread_id = json.loads(answer.text.split("data: ", 1)[1].split("\n", 1)[0])["thread"]["id"]

    listing = {"type": "items.list", "params": {"thread_id": thread_id}}
    forged = {"Authorization": mine["Authorization"][:-4] + "AAAA"}
    for headers in ({}, forged, {"Authorization": "Bearer nonsense"}):
        refused = await http.post("/chatkit", json=listing, headers=headers)
        assert refused.status_code == 401, refused.text
        assert refused.json()["code"]
    theirs = await sign_in(http, "u2")
    assert (await http.post("/chatkit", json=listing, headers=theirs)).status_code == 404
    adding = {"type": "threads.add_user_message", "params": {"thread_id": thread_id, "input": user_input("let me in")}}
    for asking in (adding, {"type": "threads.sync_custom_action", "params": {"thread_id": thread_id, **ACTION}}):
        assert (await http.post("/chatkit", json=asking, headers=theirs)).status_code == 404
    async with deployment.lanes() as lanes:
        assert (await lanes.depth()).states[EventState.DONE] == 1, "nothing of the stranger's stood in the lane"
    kept = await http.post("/chatkit", json=listing, headers=mine)
    assert [item["type"] for item in kept.json()["data"]] == ["assistant_message", "user_message"]
    no_traceback(worker)


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[TcpProxy]:
    with TcpProxy(make_url(postgres_url).port or 5432) as proxy:
        yield proxy


@pytest.fixture
def far_deployment(redis_url: str, postgres_url: str, proxy: TcpProxy) -> Iterator[Deployment]:
    """Its database is behind the proxy."""
    through = make_url(postgres_url).set(port=proxy.port)
    with Deployment(redis_url, through.render_as_string(hide_password=False)) as deployment:
        yield deployment


@pytest.mark.postgres
async def test_while_the_database_is_away_reads_say_so_and_events_wait(
    far_deployment: Deployment, proxy: TcpProxy
) -> None:
    worker = far_deployment.worker("tests.model_worker")
    async with httpx.AsyncClient(base_url=far_deployment.gateway(), timeout=60) as http:
        user = await sign_in(http)
        proxy.freeze()
        proxy.cut()
        answer = await http.post("/chatkit", json={"type": "threads.list", "params": {}}, headers=user)
        assert answer.status_code == 503, answer.text
        assert "Retry-After" in answer.headers
        event = create_event("hello")
        sent = await http.post("/v1/events", content=event.to_json(), headers=SERVICE | STRUCTURED)
        assert sent.status_code == 202
        await asyncio.sleep(1)
        assert (await http.get(f"/v1/events/{event.event_id}", headers=SERVICE)).json()["ended_at"] is None
        proxy.thaw()
        proxy.cut()
        assert await ends(far_deployment, event.event_id, within=60) is EventState.DONE
    no_traceback(worker)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("workers.cli", ["worker"]),
        ("celery", ["-A", "workers.app", "worker"]),
        ("workers.cli", ["gateway"]),
        ("workers.cli", ["flower"]),
    ],
)
async def test_a_wrong_setting_ends_each_process_with_one_line(module: str, arguments: list[str]) -> None:
    finished = await cli(*arguments, env=settings(lease_ttl="soon"), module=module)
    assert finished.code != 0
    [line] = (finished.out + finished.err).splitlines()
    assert line.removeprefix("error: ") == 'CHATKIT_LEASE_TTL: "soon" is not accepted: use a number from 0.2 up to 600'


async def test_flower_and_publish_without_a_broker_say_so_in_one_line(redis_url: str, free_port: int) -> None:
    urls = [f"{scheme}://127.0.0.1:{free_port}/0" for scheme in ("redis", "amqp")]
    publishing = cli("publish", "--count", "1", env=settings(broker_url=urls[0], state_url=redis_url))
    flowers = (cli("flower", env=settings(broker_url=url)) for url in urls)
    published, *looked_at = await asyncio.gather(publishing, *flowers)

    assert (published.code, published.out) == (1, "")
    [line] = published.err.splitlines()
    assert line.startswith("error: no broker after ")
    assert f"127.0.0.1:{free_port}" in line
    remedy = "start it, or set CHATKIT_BROKER_URL"
    for url, flower in zip(urls, looked_at, strict=True):
        assert flower.code == 1
        assert flower.err == f"error: the broker at {url} cannot be reached (connection refused): {remedy}\n"


@pytest.fixture
def late_broker(tmp_path: Path) -> Iterator[RedisServer]:
    """A broker that is not started yet."""
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = RedisServer(folder)
    yield broker
    broker.kill()


@pytest.fixture
def waiting(redis_url: str, sqlite_url: str, late_broker: RedisServer) -> Iterator[tuple[Deployment, WorkerProcess]]:
    """A worker whose state and database are up."""
    with Deployment(redis_url, sqlite_url, broker_url=late_broker.url) as deployment:
        worker = WorkerProcess("tests.model_worker", environment=deployment.environment, log_level="WARNING").launch()
        yield deployment, worker
        worker.kill()


async def test_a_worker_waits_for_its_broker_says_so_and_goes_on(
    waiting: tuple[Deployment, WorkerProcess], late_broker: RedisServer
) -> None:
    deployment, worker = waiting
    worker.wait_for_line(rf"Cannot connect to redis://:\*\*@127.0.0.1:{late_broker.port}/0", within=30)
    late_broker.start()
    worker.wait_for_line(READY, within=30)
    event = create_event("hello")
    with Publisher(late_broker.url) as publisher:
        await publisher.apublish(event)
    assert await ends(deployment, event.event_id) is EventState.DONE
    no_traceback(worker)
