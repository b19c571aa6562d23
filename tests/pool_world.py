"""A broker, an app and workers for the tests of the pool, and what they did: marks of the tasks, events of Celery."""

import json
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import redis
from celery import Celery

from tests.eventually import eventually_sync
from tests.integration.tcp_proxy import TcpProxy
from tests.services import RedisServer
from tests.worker_process import WorkerProcess


class EventLog(threading.Thread):
    """Every task event that the workers of a broker send."""

    def __init__(self, app: Celery) -> None:
        super().__init__(name="event-log", daemon=True)
        self._app, self._events, self._listening = app, list[dict[str, Any]](), threading.Event()
        self._receiver: Any = None

    def run(self) -> None:
        with self._app.connection_for_read() as connection:
            self._receiver = self._app.events.Receiver(connection, handlers={"*": self._events.append})
            self._receiver.on_consume_ready = lambda *_, **__: self._listening.set()
            self._receiver.capture(limit=None, timeout=None, wakeup=False)

    def listen(self) -> None:
        self.start()
        assert self._listening.wait(10), "no events"

    def stop(self) -> None:
        self._receiver.should_stop = True
        self.join(5)

    def of(self, task_id: str) -> list[str]:
        """The types of a task's events so far, without their `task-`."""
        return [event["type"].removeprefix("task-") for event in self._events if event.get("uuid") == task_id]

    def failure(self, task_id: str) -> str:
        """Exception and traceback of the task's failures and retries. (A hard limit is named in the traceback only.)"""
        mine = [event for event in self._events if event.get("uuid") == task_id and "exception" in event]
        return "\n".join(f"{event['exception']}\n{event['traceback']}" for event in mine)

    def pids(self, task_id: str) -> set[int]:
        return {event["pid"] for event in self._events if event.get("uuid") == task_id}


class PoolWorld:
    """One broker with a queue of its own, one Redis database for marks."""

    def __init__(self, broker_url: str, marks_url: str) -> None:
        self.broker_url, self.marks_url = broker_url, marks_url
        self.queue = f"pool-{uuid.uuid4().hex[:8]}"
        self.app = Celery("pool-world", broker=broker_url, set_as_current=False)
        self.app.conf.task_default_queue = self.queue
        self.marks = redis.Redis.from_url(marks_url)
        self.events = EventLog(self.app)

    @property
    def on_redis(self) -> bool:
        return self.broker_url.startswith("redis")

    def worker(
        self,
        settings: Mapping[str, Any] | None = None,
        *,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> WorkerProcess:
        """A worker of `tests.pool_app`, not started yet. `settings` are Celery's."""
        mine = {
            "POOL_BROKER_URL": self.broker_url,
            "POOL_MARKS_URL": self.marks_url,
            "POOL_QUEUE": self.queue,
            "POOL_SETTINGS": json.dumps(settings or {}),
        }
        lonely = ["--without-mingle", "--without-gossip"]  # each start is a second shorter
        return WorkerProcess("tests.pool_app", environment={**mine, **(environment or {})}, options=[*lonely, *options])

    def send(self, task: str, *args: Any, **options: Any) -> str:
        """Send a task of `tests.pool_app`; its id."""
        return str(self.app.send_task(f"tests.pool_app.{task}", args=args, **options).id)

    def marked(self, key: str) -> list[Any]:
        """What the tasks marked under a key, in order."""
        return [json.loads(mark) for mark in self.marks.lrange(key, 0, -1)]

    def wait_marked(self, key: str, *expected: Any, within: float = 10.0) -> None:
        """Wait until exactly these marks are there."""
        eventually_sync(lambda: self.marked(key) == list(expected), within=within)

    def wait_event(self, task_id: str, type_: str, within: float = 10.0) -> None:
        """Wait for an event of a task."""
        eventually_sync(lambda: type_ in self.events.of(task_id), within=within)

    def ready(self, queue: str) -> int:
        """How many messages of a queue wait at the broker, with no worker."""
        if self.on_redis:
            with redis.Redis.from_url(self.broker_url) as client:
                return int(client.llen(queue))
        with self.app.connection_for_read() as connection, connection.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).message_count)

    def unacked(self) -> int | None:
        """How many messages are with workers, not acknowledged. RabbitMQ tells that only by its slow tools: None."""
        if not self.on_redis:
            return None
        with redis.Redis.from_url(self.broker_url) as client:
            return int(client.hlen("unacked"))

    def through(self, proxy: TcpProxy) -> str:
        """The broker's URL through a proxy."""
        return self.broker_url.replace(f":{self.port}/", f":{proxy.port}/")

    @property
    def port(self) -> int:
        return int(self.broker_url.rpartition(":")[2].split("/")[0])


BROKERS = [pytest.param("redis", marks=pytest.mark.redis), pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)]


def world_of(request: pytest.FixtureRequest) -> Iterator[PoolWorld]:
    """The body of a fixture with `params=BROKERS`: a world on that broker that listens for events."""
    redis_server: RedisServer = request.getfixturevalue("redis_server")
    on_redis = request.param == "redis"
    url = redis_server.next_database_url() if on_redis else request.getfixturevalue("rabbitmq_url")
    world = PoolWorld(url, redis_server.next_database_url())
    world.events.listen()
    try:
        yield world
    finally:
        world.events.stop()
        world.marks.close()
        world.app.close()
