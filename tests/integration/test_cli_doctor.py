"""`doctor` and `db upgrade` against real servers, right and wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.backend_server import backend_server
from tests.cli_process import Finished, cli, settings

SECRET = "0123456789abcdef0123456789abcdef"


def findings(finished: Finished, check: str) -> list[tuple[str, str]]:
    return [(record["level"], record["said"]) for record in finished.records if record["check"] == check]


async def doctor(**fields: Any) -> Finished:
    return await cli("doctor", "--json", env=settings(**fields))


@pytest.mark.redis
async def test_a_deployment_that_is_in_order_passes(redis_url: str, sqlite_url: str) -> None:
    fields = {"broker_url": redis_url, "state_url": redis_url, "database_url": sqlite_url}
    fields |= {"secret_key": SECRET, "api_keys": "one,two"}
    upgraded = await cli("db", "upgrade", env=settings(**fields))
    again = await cli("db", "upgrade", env=settings(**fields))
    finished = await doctor(**fields)
    assert (upgraded.code, again.code) == (0, 0)
    assert upgraded.out == again.out == f"{sqlite_url} is up to date\n"
    assert finished.code == 0
    assert not [record for record in finished.records if record["level"] == "fail"]
    assert ("ok", "maxmemory-policy noeviction") in findings(finished, "state")
    assert findings(finished, "broker") == [("ok", "the same Redis")]
    assert findings(finished, "API keys") == [("ok", "2 service key(s)")]
    assert findings(finished, "clock")[0][0] == "ok"


@pytest.mark.redis
async def test_what_is_wrong_is_told_with_a_remedy(redis_url: str, sqlite_url: str) -> None:
    finished = await cli(
        "doctor", env=settings(broker_url=redis_url, state_url=redis_url, database_url=sqlite_url, secret_key="short")
    )
    assert finished.code == 1
    assert "fail  database" in finished.out
    assert "-> chatkit-workers db upgrade" in finished.out
    assert "CHATKIT_SECRET_KEY: is 5 bytes long" in finished.out
    assert "warn  API keys" in finished.out
    assert "warn  model" in finished.out


async def test_servers_that_are_away_are_each_told(free_port: int) -> None:
    finished = await doctor(
        broker_url=f"amqp://user:hunter2@127.0.0.1:{free_port}//",
        state_url=f"redis://:hunter2@127.0.0.1:{free_port}/0",
        database_url=f"postgresql+asyncpg://user:hunter2@127.0.0.1:{free_port}/chatkit",
    )
    assert finished.code == 1
    assert "hunter2" not in finished.out + finished.err
    for check in ("state", "broker", "database"):
        ((level, said),) = findings(finished, check)
        assert level == "fail"
        assert "cannot be reached: connection refused" in said.lower()


async def test_wrong_settings_are_all_that_is_told() -> None:
    finished = await doctor(shards="none", broker_url="http://x")
    assert finished.code == 1
    assert [record["check"] for record in finished.records] == ["settings", "settings"]


@pytest.mark.redis
async def test_a_redis_that_evicts_fails(redis_url: str) -> None:
    from redis import Redis

    with Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            finished = await doctor(broker_url=redis_url, state_url=redis_url)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert ("fail", "maxmemory-policy is allkeys-lru: a full Redis would throw events away") in findings(
        finished, "state"
    )


@pytest.mark.redis
@pytest.mark.rabbitmq
async def test_rabbitmq_is_asked_for_its_version(redis_url: str, rabbitmq_url: str) -> None:
    finished = await doctor(broker_url=rabbitmq_url, state_url=redis_url)
    answers, version = findings(finished, "broker")
    assert answers[0] == "ok"
    assert "quorum queues" in version[1]


@pytest.mark.postgres
async def test_the_tables_of_postgresql_are_made(postgres_url: str) -> None:
    before = await doctor(database_url=postgres_url)
    upgraded = await cli("db", "upgrade", env=settings(database_url=postgres_url))
    after = await doctor(database_url=postgres_url)
    assert findings(before, "database")[0][0] == "fail"
    assert upgraded.code == 0
    assert findings(after, "database")[0][0] == "ok"


async def test_a_database_that_is_away_cannot_be_upgraded(free_port: int) -> None:
    url = f"postgresql+asyncpg://user:hunter2@127.0.0.1:{free_port}/chatkit"
    finished = await cli("db", "upgrade", env=settings(database_url=url))
    assert finished.code == 1
    (line,) = finished.err.splitlines()
    assert "(connection refused): start it, or set CHATKIT_DATABASE_URL" in line
    assert "hunter2" not in line


async def test_a_file_that_is_no_database_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "junk.db").write_bytes(b"junk" * 1000)
    finished = await cli("db", "upgrade", env=settings(database_url=f"sqlite+aiosqlite:///{tmp_path / 'junk.db'}"))
    assert finished.code == 1
    assert "file is not a database" in finished.err


@pytest.mark.redis
async def test_each_service_is_told_by_its_name_with_a_remedy_and_without_its_secret(
    redis_url: str, sqlite_url: str, free_port: int, tmp_path: Path
) -> None:
    def service(**kind: Any) -> dict[str, Any]:
        return {"description": "One of ours.", "tenants": ["*"], **kind}

    async with backend_server() as server:
        backends = {
            "there": service(http={"url": f"{server.url}/orders", "headers_from": {"X-Key": "SHOP_TOKEN"}}),
            "away": service(http={"url": f"http://127.0.0.1:{free_port}/orders"}),
            "poor": service(http={"url": f"{server.url}/orders", "headers_from": {"X-Key": "NOT_SET"}}),
            "lost": service(openapi={"document": str(tmp_path / "none.json"), "operation": "find"}),
            "deaf": service(mcp={"command": ["false"], "tools": ["find"]}),
            "billing": service(task={"name": "billing.refund", "queue": "billing"}),
        }
        environment = settings(
            broker_url=redis_url, state_url=redis_url, database_url=sqlite_url, backends=json.dumps(backends)
        )
        finished = await cli("doctor", "--json", env=environment | {"SHOP_TOKEN": "hunter2"})
        assert server.received == [], "nothing is called"
    said = {text.partition(":")[0]: (level, text) for level, text in findings(finished, "backends")}
    assert {name: level for name, (level, _) in said.items()} == {
        "there": "ok",
        "billing": "ok",
        "away": "fail",
        "poor": "fail",
        "lost": "fail",
        "deaf": "fail",
    }
    assert "connection refused" in said["away"][1]
    assert "NOT_SET is not set" in said["poor"][1]
    assert all(record["remedy"] for record in finished.records if record["level"] == "fail")
    assert "hunter2" not in finished.out + finished.err
