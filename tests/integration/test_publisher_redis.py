"""The publisher against a real Redis: confirmed, in order, over restarts and half-open connections."""

import json
import multiprocessing
import subprocess
import threading
import time
from pathlib import Path

import pytest
import redis

from tests import services
from tests.builders import feedback_event
from tests.eventually import eventually_sync
from tests.integration.tcp_proxy import TcpProxy
from workers.errors import PublishError
from workers.publisher import Publisher

pytestmark = pytest.mark.redis


def ids_in(url: str, prefix: str) -> list[str]:
    """The CloudEvents ids in the stream, oldest first."""
    with redis.Redis.from_url(url) as client:
        return [json.loads(fields[b"event"])["id"] for _, fields in client.xrange(f"{prefix}:ingress")]


def test_events_arrive_in_the_stream_in_the_order_of_publishing(redis_url: str, prefix: str) -> None:
    events = [feedback_event("thr_1", id=str(number)) for number in range(1_203)]
    with Publisher(redis_url, prefix=prefix) as publisher:
        publisher.publish(events[0])
        publisher.publish_many(events[1:])
    assert ids_in(redis_url, prefix) == [event.id for event in events]


def test_a_stopped_redis_is_an_error_in_bounded_time(free_port: int) -> None:
    begun = time.monotonic()
    publisher = Publisher(f"redis://127.0.0.1:{free_port}/0", timeout_seconds=0.5)
    with publisher, pytest.raises(PublishError, match="no broker after"):
        publisher.publish(feedback_event("thr_1"))
    assert time.monotonic() - begun < 3


def test_a_restarted_redis_gets_what_is_published_while_it_is_away(tmp_path: Path, prefix: str) -> None:
    server = services.RedisServer(tmp_path).start()
    try:
        with Publisher(server.url, prefix=prefix, timeout_seconds=10) as publisher:
            publisher.publish(feedback_event("thr_1", id="before"))
            server.kill()
            back = threading.Timer(0.3, server.start)
            back.start()
            publisher.publish(feedback_event("thr_1", id="while away"))
            back.join()
        assert ids_in(server.url, prefix)[-1] == "while away"
    finally:
        server.stop()


def test_a_connection_that_is_cut_is_made_anew(redis_url: str, redis_server: services.RedisServer, prefix: str) -> None:
    with TcpProxy(redis_server.port) as proxy:
        through = redis_url.replace(str(redis_server.port), str(proxy.port), 1)
        with Publisher(through, prefix=prefix) as publisher:
            publisher.publish(feedback_event("thr_1", id="1"))
            proxy.cut()
            publisher.publish(feedback_event("thr_1", id="2"))
            assert proxy.connections == 2
    assert ids_in(redis_url, prefix) == ["1", "2"]


def test_a_half_open_connection_is_given_up_in_bounded_time(
    redis_url: str, redis_server: services.RedisServer, prefix: str
) -> None:
    with TcpProxy(redis_server.port) as proxy:
        through = redis_url.replace(str(redis_server.port), str(proxy.port), 1)
        with Publisher(through, prefix=prefix, timeout_seconds=1.0) as publisher:
            publisher.publish(feedback_event("thr_1", id="1"))
            proxy.freeze()
            begun = time.monotonic()
            with pytest.raises(PublishError):
                publisher.publish(feedback_event("thr_1", id="2"))
            assert time.monotonic() - begun < 4
            proxy.thaw()
            publisher.publish(feedback_event("thr_1", id="3"))
    assert ids_in(redis_url, prefix)[-1] == "3"


def test_a_wrong_password_is_refused_at_once(tmp_path: Path) -> None:
    port = services.free_port()
    options = ["--port", str(port), "--requirepass", "right", "--save", ""]
    process = subprocess.Popen(["redis-server", *options], cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        eventually_sync(lambda: services.listening("127.0.0.1", port))
        begun = time.monotonic()
        publisher = Publisher(f"redis://:wrong@127.0.0.1:{port}/0")
        with publisher, pytest.raises(PublishError, match="refused"):
            publisher.publish(feedback_event("thr_1"))
        assert time.monotonic() - begun < 3
    finally:
        process.terminate()
        process.wait(10)


def test_a_key_of_another_type_is_refused_at_once(redis_url: str, prefix: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set(f"{prefix}:ingress", "no stream")
    with Publisher(redis_url, prefix=prefix) as publisher, pytest.raises(PublishError, match="WRONGTYPE"):
        publisher.publish(feedback_event("thr_1"))


def test_too_few_replicas_are_waited_for(redis_url: str, prefix: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("min-replicas-to-write", 1)
        try:
            publisher = Publisher(redis_url, prefix=prefix, timeout_seconds=0.5)
            with publisher, pytest.raises(PublishError, match=r"no broker after .* NOREPLICAS"):
                publisher.publish(feedback_event("thr_1"))
        finally:
            client.config_set("min-replicas-to-write", 0)


def test_threads_share_one_publisher(redis_url: str, prefix: str) -> None:
    with Publisher(redis_url, prefix=prefix) as publisher:

        def publish(name: str) -> None:
            for number in range(50):
                publisher.publish(feedback_event("thr_1", id=f"{name}-{number}"))

        threads = [threading.Thread(target=publish, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    ids = ids_in(redis_url, prefix)
    assert len(ids) == 200
    for name in "abcd":
        assert [id_ for id_ in ids if id_.startswith(name)] == [f"{name}-{number}" for number in range(50)]


def test_a_forked_child_publishes_on_a_connection_of_its_own(redis_url: str, prefix: str) -> None:
    with Publisher(redis_url, prefix=prefix) as publisher:
        publisher.publish(feedback_event("thr_1", id="parent"))
        child = multiprocessing.get_context("fork").Process(
            target=publisher.publish, args=(feedback_event("thr_1", id="child"),)
        )
        child.start()
        child.join(10)
        assert child.exitcode == 0
        publisher.publish(feedback_event("thr_1", id="parent again"))
    assert ids_in(redis_url, prefix) == ["parent", "child", "parent again"]
