"""A deployment of real processes for one test: workers and a gateway over given servers, all ended by pid."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from types import TracebackType

import httpx

from tests.web_process import flower_process, gateway_process
from tests.worker_process import WorkerProcess
from workers.chat.database import Database
from workers.lanes.connection import connect
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes

SERVICE_KEY = "a-service-key-of-the-tests"
SECRET_KEY = "a-secret-key-of-the-tests-with-32-bytes"
SHARDS = 8
SERVICE = {"Authorization": f"Bearer {SERVICE_KEY}"}
"""The headers of a service that may publish events and make sessions."""


class Deployment:
    """Settings shared by every process of it; more may be given as environment variables."""

    def __init__(self, state_url: str, database_url: str, *, broker_url: str | None = None, **settings: str) -> None:
        self.state_url, self.database_url = state_url, database_url
        self.broker_url = broker_url or state_url
        self.keys = Keys(settings.get("CHATKIT_PREFIX", "ck"), SHARDS)
        self.environment = {
            "CHATKIT_BROKER_URL": self.broker_url,
            "CHATKIT_STATE_URL": state_url,
            "CHATKIT_DATABASE_URL": database_url,
            "CHATKIT_SECRET_KEY": SECRET_KEY,
            "CHATKIT_API_KEYS": SERVICE_KEY,
            "CHATKIT_LOG_LEVEL": "WARNING",
            **settings,
        }
        self._children = ExitStack()

    def worker(self, app: str = "workers.app", *options: str, **environment: str) -> WorkerProcess:
        """Start a worker and wait until it consumes."""
        process = WorkerProcess(
            app,
            environment={**self.environment, **environment},
            options=["--without-mingle", "--without-gossip", *options],
            log_level="WARNING",
        )
        process.start()
        self._children.callback(process.end)
        return process

    def process_environment(self) -> dict[str, str]:
        """The whole environment of a command that talks to this deployment."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CHATKIT_", "OPENAI_"))}
        return inherited | self.environment

    def gateway(self, **environment: str) -> str:
        """Start a gateway; its address."""
        return self._children.enter_context(gateway_process({**self.environment, **environment}))

    def flower(self) -> str:
        """Start Flower; its address."""
        return self._children.enter_context(flower_process(self.environment))

    @asynccontextmanager
    async def lanes(self) -> AsyncIterator[Lanes]:
        """The lanes, to look at."""
        state = connect(self.state_url)
        try:
            yield Lanes(
                state,
                self.keys,
                owner="test",
                lease=timedelta(seconds=10),
                max_waiting_per_lane=1000,
                max_waiting=200_000,
                retention=timedelta(hours=1),
            )
        finally:
            await state.aclose()

    def __enter__(self) -> "Deployment":
        asyncio.run(_migrate(self.database_url))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._children.close()


async def sign_in(http: httpx.AsyncClient, user: str = "u1") -> dict[str, str]:
    """The headers of a user's page."""
    answer = await http.post("/v1/sessions", json={"user": user}, headers=SERVICE)
    assert answer.status_code in (200, 201), answer.text
    return {"Authorization": f"Bearer {answer.json()['client_secret']}"}


async def _migrate(database_url: str) -> None:
    database = Database(database_url)
    await database.upgrade()
    await database.close()
