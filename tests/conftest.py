"""Fixtures for every test: real services, or a listed reason why they were left out."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import hypothesis
import pytest

from tests import services

if TYPE_CHECKING:  # most tests need neither
    from tests.sentry_server import SentryServer
    from workers.testing.provider import FakeProvider


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", default=False, help="run the minutes-long chaos and load tests too")


def pytest_configure(config: pytest.Config) -> None:
    """Property tests take the same examples each time, so that a red run says something of the change: `--long` looks
    for new ones."""
    hypothesis.settings.register_profile("same", derandomize=True)
    if not config.getoption("--long"):
        hypothesis.settings.load_profile("same")


TIMED = frozenset(
    {
        "test_approval_across_workers",
        "test_bad_input",
        "test_broker_and_database_faults",
        "test_dead_reasons",
        "test_debounce",
        "test_disconnect_grace",
        "test_embedded_stack",
        "test_end_to_end",
        "test_failure_table",
        "test_failures_without_answer",
        "test_fencing",
        "test_flood",
        "test_invariants",
        "test_limit_calls",
        "test_limits",
        "test_many_events",
        "test_pool_shutdown",
        "test_quarantine",
        "test_redis_faults",
        "test_rolling_restart",
        "test_takeover",
        "test_task_control",
        "test_state_connection",
        "test_wary_connections",
        "test_two_gateways",
        "test_worker",
        "test_worker_ends",
    }
)
"""Files whose tests promise something within seconds: a machine that is busy with others would make them wait."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in TIMED and "unit" not in item.path.parts:
            item.add_marker("timed")
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="takes minutes: run with --long")
    for item in items:
        if "long" in item.keywords:
            item.add_marker(skip)


def leave_out(service: str) -> NoReturn:
    """Skip, and say what is missing; in CI (REQUIRE_SERVICES=1) that is a failure."""
    message = f"left out: {service} is neither installed nor reachable"
    if services.REQUIRED:
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.RedisServer]:
    """A real Redis for the session, on a port of its own. Tests that stop a server start another."""
    if not services.redis_installed():
        leave_out("Redis")
    server = services.RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: services.RedisServer) -> str:
    """A database of the test's own: broker queues have fixed names, so a prefix alone would not keep tests apart."""
    return redis_server.next_database_url()


@pytest.fixture
def provider() -> Iterator["FakeProvider"]:
    """A model provider on loopback."""
    from workers.testing.provider import FakeProvider

    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def sentry() -> Iterator["SentryServer"]:
    """A Sentry on loopback."""
    from tests.sentry_server import SentryServer

    with SentryServer() as sentry:
        yield sentry


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="module")
def rabbitmq_url() -> Iterator[str]:
    """A virtual host of the module's own: the apps of other modules declare the same queues in other ways."""
    if not services.rabbitmq_reachable():
        leave_out("RabbitMQ")
    with services.rabbitmq_vhost() as url:
        yield url


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A fresh PostgreSQL database, as an SQLAlchemy URL."""
    if not services.postgres_reachable():
        leave_out("PostgreSQL")
    with services.postgres_database() as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'chatkit.db'}"


@pytest.fixture
def free_port() -> int:
    return services.free_port()
