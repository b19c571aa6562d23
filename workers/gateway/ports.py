"""What a gateway asks of others; the composition root hands it over."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from schemas.outcome import CancelReason
from schemas.records import EventStatus, PageState
from schemas.sessions import Session
from workers.allow_lists import AllowLists
from workers.lanes.connection import State
from workers.lanes.ports import Waker
from workers.lanes.records import Cancellation, Depth, Owner
from workers.lanes.sign_ins import SignIns
from workers.limits.door import Door
from workers.limits.limiter import Limiter
from workers.limits.usher import Usher
from workers.redrive import RedrivingLanes
from workers.routing import Router
from workers.sessions.deposits import SecretDeposits
from workers.sessions.ports import SessionProvider
from workers.sessions.tokens import Identity
from workers.settings import Settings
from workers.streams.records import Entry, ThreadEntry


class GatewayLanes(RedrivingLanes, Protocol):
    """The part of `Lanes` that a gateway uses."""

    async def status(self, event_id: str) -> tuple[EventStatus, Owner] | None: ...

    async def cancel(
        self, event_id: str, reason: CancelReason = CancelReason.USER, *, lane: str | None = None
    ) -> Cancellation: ...

    async def depth(self) -> Depth: ...

    @property
    def sign_ins(self) -> SignIns: ...

    async def body(self, event_id: str) -> str | None:
        """The event as it was accepted, as JSON."""

    async def events_of(self, lane: str) -> list[str]:
        """Ids of the events that wait or run in a lane, head first."""


class Reader(Protocol):
    """Frames of events. `batches` is described at `FrameReader`."""

    def batches(
        self, lane: str, event_id: str, after: str | None = None, *, acceptance: int | None = None
    ) -> AsyncGenerator[Sequence[Entry], None]: ...

    def thread(
        self, lane: str, owner: Owner, after: str | None = None, *, at: Callable[[str | None], None] = lambda _: None
    ) -> AsyncGenerator[Sequence[ThreadEntry], None]:
        """The owner's turns of a thread, without an end; `at` is told which of them is read."""
        ...

    def end_all(self) -> None: ...

    @property
    def open_count(self) -> int: ...


class Verifier(Protocol):
    """Checks client secrets; raises `TokenError`."""

    def verify(self, token: str) -> Identity: ...
    def has_ended(self, session_id: str) -> bool: ...


class Minter(Protocol):
    """Makes client secrets that stand alone."""

    def mint(self, user: str, tenant: str, session_id: str | None = None) -> Session: ...


class ReadRequests(Protocol):
    """Answers the requests that need no worker: reads, titles, feedback, attachments' metadata, deletion."""

    async def answer(self, request: bytes, *, tenant: str, user: str, event_id: str) -> bytes: ...
    async def has_thread(self, thread_id: str, *, tenant: str, user: str) -> bool: ...
    async def check_thread(self, thread_id: str, *, tenant: str, user: str) -> None: ...


class PageStates(Protocol):
    """What pages said last."""

    async def find(self, tenant: str, session_id: str) -> PageState | None: ...


class Pingable(Protocol):
    """Something that readiness depends on."""

    async def ping(self) -> None:
        """Raise unless it can be used."""


class GatewayRuntime(Protocol):
    """All of it."""

    @property
    def settings(self) -> Settings: ...
    @property
    def allowed(self) -> AllowLists: ...
    @property
    def state(self) -> State: ...
    @property
    def router(self) -> Router: ...
    @property
    def lanes(self) -> GatewayLanes: ...
    @property
    def limiter(self) -> Limiter: ...
    @property
    def door(self) -> Door: ...
    @property
    def usher(self) -> Usher: ...
    @property
    def reader(self) -> Reader: ...
    @property
    def waker(self) -> Waker: ...
    @property
    def verifier(self) -> Verifier: ...
    @property
    def minter(self) -> Minter: ...
    @property
    def sessions(self) -> SessionProvider: ...
    @property
    def deposits(self) -> SecretDeposits: ...
    @property
    def reads(self) -> ReadRequests: ...
    @property
    def pages(self) -> PageStates: ...
    @property
    def database(self) -> Pingable: ...
