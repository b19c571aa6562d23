"""A gateway's runtime for tests: real lanes, reader and tokens, a worker of a few lines, no database."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from schemas.events import Event, parse_event
from schemas.records import PageState
from tests.builders import delivery_of, user_input
from tests.limit_builders import usher_on
from workers.allow_lists import AllowLists
from workers.errors import NotFoundError
from workers.gateway.app import create_app
from workers.lanes.connection import State
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.lanes.records import Begun, Settled, Settlement, Start, Wake
from workers.limits.door import Door
from workers.limits.limiter import Limiter
from workers.limits.usher import Usher
from workers.plugins import router_of
from workers.routing import Router
from workers.sessions.deployment import revocations_of, store_of
from workers.sessions.deposits import SecretDeposits
from workers.sessions.keys import KeyRing
from workers.sessions.own import OwnSessions
from workers.sessions.revocations import Revocations
from workers.sessions.store import SessionStore
from workers.sessions.tokens import TokenMinter, TokenVerifier
from workers.settings import Settings
from workers.streams.reader import FrameReader
from workers.streams.turn_frames import TurnFrames
from workers.streams.writer import FrameWriter

SERVICE_KEY = "a-service-key"
SERVICE = {"Authorization": f"Bearer {SERVICE_KEY}"}
BEAT = b'{"type":"progress_update","text":"working"}'


@dataclass
class Notes:
    """Remembers what the gateway answered by itself; threads of `owners` exist."""

    owners: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    failure: Exception | None = None

    async def answer(self, request: bytes, *, tenant: str, user: str, event_id: str) -> bytes:
        if self.failure is not None:
            raise self.failure
        parsed = json.loads(request)
        thread = parsed["params"].get("thread_id")
        if thread is not None and self.owners.get(thread) != f"{tenant}/{user}":
            raise NotFoundError("no such thread")
        self.asked.append(parsed)
        return json.dumps({"type": parsed["type"], "user": user}).encode()

    async def has_thread(self, thread_id: str, *, tenant: str, user: str) -> bool:
        return self.owners.get(thread_id) == f"{tenant}/{user}"

    async def check_thread(self, thread_id: str, *, tenant: str, user: str) -> None:
        if self.owners.get(thread_id, f"{tenant}/{user}") != f"{tenant}/{user}":
            raise NotFoundError("no such thread")


@dataclass
class SaidByPages:
    """What pages said, by tenant and session."""

    states: dict[tuple[str, str], PageState] = field(default_factory=dict)

    async def find(self, tenant: str, session_id: str) -> PageState | None:
        return self.states.get((tenant, session_id))


class Healthy:
    """A database that answers."""

    async def ping(self) -> None:
        """Answers."""


Answer = Callable[[TurnFrames, Event], Awaitable[Settlement | None]]


@dataclass
class SmallWorker:
    """Runs each woken turn with `answer`; waking it is the gateway's waker."""

    lanes: Lanes
    answer: Answer
    runs: list[str] = field(default_factory=list)
    woken: list[Wake] = field(default_factory=list)
    asleep: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def wake(self, wakes: Sequence[Wake]) -> None:
        self.woken += wakes
        for wake in () if self.asleep else wakes:
            task = asyncio.create_task(self._run(wake))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _run(self, wake: Wake) -> None:
        [begun] = await self.lanes.begin([Start(wake.lane, wake.event_id, uuid.uuid4().hex)])
        if not isinstance(begun, Begun):
            return
        self.runs.append(wake.event_id)
        assert begun.body is not None
        event = parse_event(begun.body)
        frames = FrameWriter(self.lanes).open(delivery_of(event, lease=begun.lease, next_frame=begun.next_frame))
        settlement = await self.answer(frames, event)
        if settlement is None:
            return
        [settled] = await self.lanes.settle(
            [Settlement(begun.lease, settlement.outcome, dead=settlement.dead, final_frames=settlement.final_frames)]
        )
        assert isinstance(settled, Settled)
        await self.wake([settled.wake] if settled.wake else [])


@dataclass
class Stage:
    """The runtime, and what tests ask it."""

    settings: Settings
    allowed: AllowLists
    state: State
    keys: Keys
    lanes: Lanes
    limiter: Limiter
    door: Door
    usher: Usher
    reader: FrameReader
    waker: SmallWorker
    verifier: TokenVerifier
    minter: TokenMinter
    sessions: OwnSessions
    revocations: Revocations
    store: SessionStore
    deposits: SecretDeposits
    reads: Notes
    pages: SaidByPages
    database: Healthy

    @property
    def router(self) -> Router:
        return router_of(self.settings)

    def app(self) -> FastAPI:
        return create_app(runtime=self)

    def bearer(self, user: str = "u1", tenant: str = "acme") -> dict[str, str]:
        """The header of a user."""
        return {"Authorization": f"Bearer {self.minter.mint(user, tenant).client_secret}"}


@asynccontextmanager
async def stage_on(
    state: State, prefix: str, answer: Answer, *, per_lane: int = 1000, waiting: int = 100_000, **settings: Any
) -> AsyncIterator[Stage]:
    """A stage on a real Redis, or on a fake one."""
    chosen = Settings(prefix=prefix, api_keys=SecretStr(SERVICE_KEY), secret_key=SecretStr("s" * 40), **settings)
    keys = Keys(prefix, chosen.shards)
    lanes = Lanes(
        state,
        keys,
        owner="w1",
        lease=timedelta(seconds=10),
        max_waiting_per_lane=per_lane,
        max_waiting=waiting,
        retention=timedelta(hours=1),
    )
    ring, store, revocations = KeyRing.from_settings(chosen), store_of(chosen, state), revocations_of(chosen)
    reader = FrameReader(state, keys, idle=timedelta(milliseconds=200))
    worker = SmallWorker(lanes, answer)
    minter = TokenMinter(ring, timedelta(minutes=5))
    yield Stage(
        chosen,
        AllowLists.of(chosen),
        state,
        keys,
        lanes,
        Limiter(state, keys),
        Door(state, keys, chosen.user_rate),
        usher_on(Limiter(state, keys), lanes),
        reader,
        worker,
        TokenVerifier(ring, revocations),
        minter,
        OwnSessions(store, minter, revocations),
        revocations,
        store,
        SecretDeposits(state, keys),
        Notes(),
        SaidByPages(),
        Healthy(),
    )
    await reader.close()
    for task in worker.tasks:
        task.cancel()
    await asyncio.gather(*worker.tasks, return_exceptions=True)


@asynccontextmanager
async def calling(stage: Stage) -> AsyncIterator[httpx.AsyncClient]:
    """A client that calls the app without a socket; it gets streams only when they have ended."""
    app = stage.app()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("127.0.0.1", 1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as c,
    ):
        yield c


@asynccontextmanager
async def serving(stage: Stage, port: int) -> AsyncIterator[str]:
    """A real server on a free port."""
    app = stage.app()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="on"))
    task = asyncio.create_task(server._serve())  # serve() would take the signals of pytest
    while not server.started:
        assert not task.done(), task
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        stage.reader.end_all()
        await task


def create_request(text: str = "hello") -> dict[str, Any]:
    """`threads.create`, as a page sends it."""
    return {"type": "threads.create", "params": {"input": user_input(text)}}


def message_request(thread_id: str, text: str = "and then?") -> dict[str, Any]:
    """`threads.add_user_message`."""
    return {"type": "threads.add_user_message", "params": {"thread_id": thread_id, "input": user_input(text)}}


def raw_event(id_: str = "1", request: dict[str, Any] | None = None, **attributes: Any) -> dict[str, Any]:
    """An event as a service publishes it."""
    data = request or create_request()
    return {
        "specversion": "1.0",
        "id": id_,
        "source": "/shop",
        "type": f"chatkit.{data['type']}",
        "userid": "u1",
        "tenant": "acme",
        "data": data,
        **attributes,
    }
