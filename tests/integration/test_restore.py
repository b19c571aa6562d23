"""Backups of Redis as deploy/runbook.md makes and restores them: what waited in them is answered."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from schemas.outcome import EventState
from tests.builders import create_event
from tests.conftest import leave_out
from tests.deployment import Deployment
from tests.eventually import eventually_sync
from tests.integration.test_worker import ended
from tests.services import RedisServer, redis_installed

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

BackUp = Callable[[RedisServer, Path], None]
Restore = Callable[[RedisServer], None]

AOF = ("--appendonly", "yes", "--appendfsync", "everysec")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """As compose starts it."""
    if not redis_installed():
        leave_out("Redis")
    (tmp_path / "old").mkdir()
    server = RedisServer(tmp_path / "old", *AOF).start()
    yield server
    server.stop()


@pytest.fixture
def deployment(server: RedisServer, sqlite_url: str) -> Iterator[Deployment]:
    with Deployment(server.url, sqlite_url) as deployment:
        yield deployment


def back_up_rdb(server: RedisServer, to: Path) -> None:
    subprocess.run(["redis-cli", "-p", str(server.port), "--rdb", to / "dump.rdb"], check=True, capture_output=True)


def restore_rdb(server: RedisServer) -> None:
    """Without AOF first, since with it Redis reads nothing else; then AOF is switched on, which writes it anew."""
    server.options = ("--appendonly", "no")
    with redis.Redis(port=server.start().port) as client:
        client.config_set("appendonly", "yes")
        eventually_sync(lambda: not client.info("persistence")["aof_rewrite_in_progress"], within=20)
    server.stop()
    server.options = AOF
    server.start()


def back_up_aof(server: RedisServer, to: Path) -> None:
    """No rewrite may begin in the middle of the copy."""
    with redis.Redis(port=server.port) as client:
        client.config_set("auto-aof-rewrite-percentage", "0")
        shutil.copytree(server.folder / "appendonlydir", to / "appendonlydir")
        client.config_set("auto-aof-rewrite-percentage", "100")


def restore_aof(server: RedisServer) -> None:
    server.start()


@pytest.mark.parametrize(("back_up", "restore"), [(back_up_rdb, restore_rdb), (back_up_aof, restore_aof)])
async def test_what_waited_in_a_backup_is_answered_after_its_restore(
    server: RedisServer, deployment: Deployment, tmp_path: Path, back_up: BackUp, restore: Restore
) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    event = create_event("hello")
    async with deployment.lanes() as lanes:
        await lanes.accept([(event, "chatkit.interactive")])
    back_up(server, backup)
    server.kill()
    new = RedisServer(backup, *AOF, port=server.port)
    restore(new)
    try:
        deployment.worker("tests.model_worker")
        async with deployment.lanes() as lanes:
            assert await ended(lanes, event, within=60) is EventState.DONE
    finally:
        new.stop()
