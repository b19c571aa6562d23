"""Tasks of somebody else's Celery worker, which is a process of its own with an app of its own."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from kombu.connection import Connection

from tests.backend_builders import SCHEMA, caller
from tests.worker_process import WorkerProcess
from workers.backend_types import Backend
from workers.backends.deployment import Surroundings, open_backends
from workers.backends.guard import GuardedBackend
from workers.backends.task import RESULT, task_id_of
from workers.broker import sending_app
from workers.errors import SettingsError
from workers.lanes.connection import connect
from workers.settings import Settings


class Billing:
    """The broker and the results that both sides share."""

    def __init__(self, broker_url: str, state_url: str) -> None:
        self.broker_url, self.state_url = broker_url, state_url

    def worker(self) -> WorkerProcess:
        environment = {"BILLING_BROKER_URL": self.broker_url, "BILLING_RESULT_URL": self.state_url}
        return WorkerProcess(
            "tests.billing_app", environment=environment, options=["--pool", "solo", "--concurrency", "1"], fresh=True
        )

    @asynccontextmanager
    async def backend(self, task: str = "billing.refund", **changes: Any) -> AsyncIterator[GuardedBackend]:
        plain: dict[str, Any] = {"description": "Refund.", "parameters": SCHEMA, "tenants": ["acme"], "timeout": 5}
        declaration = Backend.model_validate(plain | {"task": {"name": task, "queue": "billing"}} | changes)
        settings = Settings(broker_url=self.broker_url, state_url=self.state_url)
        state = connect(self.state_url)

        around = Surroundings({}, state=state, app=sending_app(settings))
        try:
            async with open_backends({"refund": declaration}, around) as [backend]:
                yield backend
        finally:
            await state.aclose()


@asynccontextmanager
async def state_of(url: str) -> AsyncIterator[Any]:
    state = connect(url)
    try:
        yield state
    finally:
        await state.aclose()


@pytest.fixture(
    params=[pytest.param("redis", marks=pytest.mark.redis), pytest.param("amqp", marks=pytest.mark.rabbitmq)]
)
def billing(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Billing]:
    broker_url = redis_url if request.param == "redis" else str(request.getfixturevalue("rabbitmq_url"))
    yield Billing(broker_url, redis_url)
    if request.param == "amqp":
        with Connection(broker_url) as connection:  # type: ignore[no-untyped-call]  # kombu has no types
            connection.default_channel.queue_delete("billing")


async def told(backend: GuardedBackend, key: str = "evt_1:0:call_1", **arguments: Any) -> str:
    return (await backend.call(json.dumps({"order": "1042", **arguments}), caller(key=key))).text


async def test_the_task_runs_over_there_and_its_result_comes_back(billing: Billing) -> None:
    with billing.worker():
        async with billing.backend() as refund:
            result = json.loads(await told(refund, amount=5))
            assert result == {
                "order": "1042",
                "amount": 5,
                "id": task_id_of("billing.refund", caller()),
                "about": {"tenant": "acme", "user": "ada", "idempotency_key": "evt_1:0:call_1"},
            }
            again = json.loads(await told(refund, amount=5))
            assert again == result
            assert json.loads(await told(refund, key="evt_1:0:call_2"))["id"] != result["id"]
            assert "Not called" in await told(refund, amount=0)
        async with billing.backend("billing.text") as text:
            assert await told(text) == "refunded 1042"
        async with billing.backend("billing.fail") as fail:
            said = await told(fail)
            assert said == "The service refused the call: the task failed (ValueError)"
            assert "s3cret" not in said


@pytest.mark.redis
async def test_a_result_that_is_there_already_is_taken_and_the_task_is_not_sent_again(redis_url: str) -> None:
    billing = Billing(redis_url, redis_url)
    kept = json.dumps({"status": "SUCCESS", "result": "done before"})
    async with state_of(redis_url) as state, billing.backend() as refund:
        await state.set(RESULT + task_id_of("billing.refund", caller()), kept)
        assert await told(refund) == "done before"
        assert await state.llen("billing") == 0


@pytest.mark.redis
@pytest.mark.parametrize("retry", ["never", "idempotent"])
async def test_without_a_worker_over_there_the_call_ends_at_its_deadline(redis_url: str, retry: str) -> None:
    async with Billing(redis_url, redis_url).backend(timeout=0.3, retry=retry) as refund:
        began = time.monotonic()
        assert "may or may not have taken effect" in await told(refund)
        assert time.monotonic() - began < 5


@pytest.mark.redis
async def test_a_task_that_nobody_waits_for_any_more_is_not_begun(redis_url: str) -> None:
    billing = Billing(redis_url, redis_url)
    async with billing.backend(timeout=0.3) as refund:
        await told(refund)
    time.sleep(0.5)
    with billing.worker():
        async with billing.backend("billing.text") as text:
            assert await told(text) == "refunded 1042"  # it stood behind the other one
    async with state_of(redis_url) as state:
        kept = json.loads(await state.get(RESULT + task_id_of("billing.refund", caller())) or b"{}")
        assert kept["status"] == "REVOKED"


@pytest.mark.redis
async def test_arguments_are_not_shown_where_tasks_are_shown(redis_url: str) -> None:
    async with Billing(redis_url, redis_url).backend(timeout=0.2) as refund:
        await refund.call('{"order": "c4nary"}', caller())
    async with state_of(redis_url) as state:
        [message] = await state.lrange("billing", 0, -1)
    headers = json.loads(message)["headers"]
    assert "c4nary" not in headers["argsrepr"] + headers["kwargsrepr"]


async def test_a_cluster_keeps_no_results_so_the_start_is_refused() -> None:
    declaration = Backend.model_validate(
        {"description": "d", "tenants": ["*"], "task": {"name": "billing.refund", "queue": "billing"}}
    )
    with pytest.raises(SettingsError, match="CHATKIT_STATE_URL must be a single Redis"):
        async with open_backends({"refund": declaration}, Surroundings({})):
            pass
