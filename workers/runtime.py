"""The composition root: builds every collaborator of a worker or a gateway, and closes them in the right order."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from typing import Any

from workers.agents.addresses import Addresses, Hosts
from workers.agents.models import build_model
from workers.agents.ports import PageAccess, ServiceDirectory
from workers.agents.responder import AgentResponder
from workers.agents.services import load_services
from workers.agents.team import Team, build_team
from workers.agents.window import Window
from workers.allow_lists import ActionRules, AllowLists
from workers.backends.deployment import Surroundings, open_backends
from workers.chat.database import Database
from workers.chat.light import LightHandler
from workers.chat.page_states import PageStates
from workers.chat.reads import Reads
from workers.chat.session_events import SessionEvents
from workers.chat.take_back import TakeBack
from workers.chat.turn import TurnHandler
from workers.clock import utc_now
from workers.dispatch import Dispatcher, numbers_of
from workers.ends import Ends
from workers.errors import DatabaseError, SettingsError
from workers.ingest.admission import Admission
from workers.ingest.ingress import Ingress, connect_ingress
from workers.ingest.intake import Intake
from workers.ingest.rounds import LightRounds
from workers.lanes.check_ins import CheckIns
from workers.lanes.connection import CONNECTIONS, POOL_SECONDS, STATE_ERRORS, State, connect
from workers.lanes.deployment import keys_of, lanes_of
from workers.lanes.figures import Figures, Load, Teller
from workers.lanes.keeper import LeaseKeeper
from workers.lanes.keys import Keys
from workers.lanes.lanes import Lanes
from workers.lanes.readers import Abandoned, Readers
from workers.lanes.refusals import Refusals
from workers.lanes.roll import Roll, process_name
from workers.lanes.rounds import Rounds
from workers.lanes.sweeper import Sweeper
from workers.light_turn import LightTurn
from workers.limits.desk import LONGEST_PAUSE, LimitDesk
from workers.limits.door import Door
from workers.limits.limiter import Limiter
from workers.limits.models import Models
from workers.limits.usher import Usher
from workers.operator_cancel import OperatorCancel
from workers.plugins import Plugins, load_plugins, router_of
from workers.policies.filter import FilterPolicy
from workers.quarantine import Quarantine
from workers.routing import Router
from workers.runner import EventRunner
from workers.sessions.asked import AskedSessions
from workers.sessions.deployment import minter_of, open_provider, revocations_of, store_of
from workers.sessions.deposits import SecretDeposits
from workers.sessions.feed import RevocationFeed
from workers.sessions.issuer import SecretIssuer
from workers.sessions.keys import KeyRing
from workers.sessions.ports import SessionProvider
from workers.sessions.store import SessionStore
from workers.sessions.tokens import TokenMinter, TokenVerifier
from workers.settings import Settings
from workers.settle import Settler
from workers.streams.outcomes import EffectOutcomes
from workers.streams.reader import FrameReader
from workers.streams.replay import TurnStreams
from workers.streams.writer import FrameWriter
from workers.telemetry.metrics import Metrics
from workers.telemetry.sentry import check_in, is_on
from workers.telemetry.totals import Growth
from workers.waker import CeleryWaker

log = logging.getLogger(__name__)

SWEEPER = "chatkit-sweeper"
"""Its monitor in Sentry, made by its first check-in."""

CANCEL_AGAIN_SECONDS = 0.5
GATEWAY_CONNECTIONS = 4
"""To the state, of a gateway, however many clients it has: two that listen (to frames, to revocations) and two that
ask. The one to a broker on Redis is the fifth."""

GATEWAY_POOL_SECONDS = 15.0
"""How long a request may wait for one of them: after a restart, all clients of a gateway come back within a second."""

QUARANTINE_MARGIN = timedelta(seconds=30)
"""What a run in quarantine may take beyond its turn: storing, waiting for the limits."""

GiveUp = Callable[[], None]
"""Called when a loop has ended that should not have: the process is of no use any more."""


def worker_name() -> str:
    """Who owns a lease: host and process."""
    return process_name(os.getpid())


@dataclass(frozen=True, slots=True)
class Core:
    """What workers and gateways share."""

    settings: Settings
    plugins: Plugins
    router: Router
    keys: Keys
    state: State
    lanes: Lanes
    database: Database
    waker: CeleryWaker
    app: Any


@dataclass(frozen=True, slots=True)
class TurnParts:
    """What runs deliveries, in a worker and in its quarantine."""

    dispatcher: Dispatcher
    light: LightHandler
    streams: TurnStreams
    desk: LimitDesk


@dataclass(frozen=True, slots=True)
class WorkerRuntime:
    """What the tasks of a worker use."""

    runner: EventRunner
    cancel: OperatorCancel
    admission: Admission


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """What the gateway's requests use."""

    settings: Settings
    allowed: AllowLists
    router: Router
    state: State
    lanes: Lanes
    limiter: Limiter
    door: Door
    usher: Usher
    database: Database
    waker: CeleryWaker
    reader: FrameReader
    verifier: TokenVerifier
    minter: TokenMinter
    sessions: SessionProvider
    deposits: SecretDeposits
    reads: Reads
    pages: PageStates


@asynccontextmanager
async def open_core(
    settings: Settings,
    app: Any,
    *,
    name: str = "chatkit-worker",
    connections: int = CONNECTIONS,
    pool_seconds: float = POOL_SECONDS,
) -> AsyncIterator[Core]:
    """Connect to the state and the database.

    Args:
        settings: of the deployment.
        app: the Celery app that wake-ups are sent with.
        name: what Redis calls the connections, with `worker_name` behind it.
        connections: to the state, at most, if that is a single Redis.
        pool_seconds: longest wait for one of them.
    """
    plugins, router = load_plugins(settings.plugins), router_of(settings)
    async with AsyncExitStack() as stack:
        state = connect(
            settings.state_url,
            max_connections=connections,
            pool_seconds=pool_seconds,
            name=f"{name}:{worker_name()}",
        )
        stack.push_async_callback(state.aclose)
        lanes = lanes_of(settings, state, owner=worker_name())
        with unreachable("CHATKIT_STATE_URL", "is Redis up?", *STATE_ERRORS):
            await lanes.check()
        database = Database(settings.database_url)
        stack.push_async_callback(database.close)
        waker = CeleryWaker(app)
        stack.callback(waker.close)
        yield Core(settings, plugins, router, keys_of(settings), state, lanes, database, waker, app)


@contextmanager
def unreachable(variable: str, remedy: str, *errors: type[Exception]) -> Iterator[None]:
    """What is missing at start-up, in one line: the setting that names it, and what to look at."""
    try:
        yield
    except errors as error:
        raise SettingsError(f"{variable}: cannot be used ({type(error).__name__}); {remedy}") from None


@asynccontextmanager
async def turn_runtime(
    core: Core, metrics: Metrics, quarantine: Quarantine | None = None, *, give_up: GiveUp = lambda: None
) -> AsyncIterator[TurnParts]:
    """Everything that runs deliveries. What it counts goes to `metrics`."""
    settings, plugins, lanes = core.settings, core.plugins, core.lanes
    async with AsyncExitStack() as stack:
        writer = FrameWriter(lanes)
        stack.push_async_callback(writer.close)
        refusals = Refusals(core.state, core.keys)
        desk = LimitDesk(
            Limiter(core.state, core.keys),
            lanes,
            core.waker.wake,
            models=_models(settings),
            lease=settings.lease * 3,
            on_stale=partial(refusals.note, "limits"),
            # a wait for the limits must not end a turn as one that took too long
            longest_pause=min(LONGEST_PAUSE, timedelta(seconds=settings.turn_seconds) / 4),
            metrics=metrics,
        )
        stack.push_async_callback(desk.close)
        await stack.enter_async_context(running(desk.run(), "limit-desk", give_up))
        services = _services(settings, plugins)
        store = store_of(settings, core.state)
        provider = await _provider_of_worker(stack, settings, store)
        pages = _pages(core, provider)
        backends = await stack.enter_async_context(
            open_backends(settings.backends, Surroundings(state=core.state, app=core.app))
        )
        teams: dict[str, Team] = {}
        for model_name in _models(settings).names:
            model = build_model(settings, model_name, on_headers=desk.correct)
            stack.push_async_callback(model.close)
            teams[model_name] = build_team(model, services, pages, backends, more=plugins.agents, tools=plugins.tools)

        addresses = Addresses(Hosts.of(settings.image_domains), Hosts.of(settings.link_domains))
        streams = TurnStreams(writer, core.state, core.keys)
        sessions = AskedSessions(store)
        light = LightHandler(core.database, SessionEvents(provider), sessions, EffectOutcomes(core.state, core.keys))
        team = teams[settings.model]
        turns = TurnHandler(
            core.database,
            AgentResponder(
                team,
                others=teams,
                addresses=addresses,
                window=Window(settings.context_tokens, settings.compaction),
                queues={team.names[name]: queue for name, queue in core.router.handoff_queues.items()},
            ),
            streams,
            longest=timedelta(seconds=settings.turn_seconds),
            approval_ttl=timedelta(seconds=settings.approval_ttl),
            actions=plugins.actions,
            transcriber=plugins.transcriber,
            route=core.router.route,
            handlers=plugins.handlers,
            on_stale=partial(refusals.note, "store"),
            metrics=metrics,
        )
        dispatcher = Dispatcher(
            settings,
            turns,
            LightTurn(light, streams),
            desk,
            quarantine,
            sessions=sessions,
            more=plugins.policies,
        )
        yield TurnParts(dispatcher, light, streams, desk)


def _services(settings: Settings, plugins: Plugins) -> ServiceDirectory:
    """Those of the setting, else of a plug-in, else the samples."""
    if settings.services is None and plugins.services is not None:
        return plugins.services()
    return load_services(settings.services)


@asynccontextmanager
async def told_metrics(
    core: Core, name: str = "", load: Callable[[], Load] = lambda: Load(0, 0), *, give_up: GiveUp = lambda: None
) -> AsyncIterator[Metrics]:
    """The metrics of this process, told to the deployment once a second and at the end. `name`: of a worker."""
    metrics = Metrics()
    teller = Teller(Figures(core.state, core.keys), Growth(metrics.counted()).take, name, load)
    async with running(teller.run(), "figures", give_up):
        yield metrics


async def _provider_of_worker(stack: AsyncExitStack, settings: Settings, store: SessionStore) -> SessionProvider | None:
    """What makes sessions for events of the queue; None where only the gateways were given a key to sign with."""
    if settings.signing_keys is None and settings.secret_key is None:
        return None
    minter = minter_of(settings, KeyRing.from_settings(settings))
    return await stack.enter_async_context(open_provider(settings, store, minter))


def _pages(core: Core, provider: SessionProvider | None) -> PageAccess:
    """How the agents' tools reach the pages of users."""
    secrets = SecretIssuer(provider, SecretDeposits(core.state, core.keys)) if provider is not None else None
    actions = ActionRules(core.settings.actions)
    outcomes, states = EffectOutcomes(core.state, core.keys), PageStates(core.database)
    return PageAccess(secrets=secrets, actions=actions, outcomes=outcomes, states=states)


@asynccontextmanager
async def worker_runtime(
    core: Core, load: Callable[[], Load] = lambda: Load(0, 0), *, give_up: GiveUp = lambda: None
) -> AsyncIterator[WorkerRuntime]:
    """Everything that a worker runs. `load`: of its pool. At the end the ways in stop first, then what turns need, then
    the lease keeper, since a lease must outlive the last settlement of what it covers; last what tells the figures."""
    settings, lanes, name = core.settings, core.lanes, worker_name()
    async with AsyncExitStack() as stack:
        roll = Roll(core.state, core.keys)
        await stack.enter_async_context(running(roll.run(name), "roll", give_up))
        metrics = await stack.enter_async_context(told_metrics(core, name, load, give_up=give_up))
        keeper = LeaseKeeper(lanes, core.state, core.keys, lease=settings.lease)
        await stack.enter_async_context(running(keeper.run(), "lease-keeper", give_up))
        longest = timedelta(seconds=settings.turn_seconds) + QUARANTINE_MARGIN
        quarantine = Quarantine(memory_bytes=settings.quarantine_bytes, longest=longest)
        stack.push_async_callback(quarantine.close)
        turns = await stack.enter_async_context(turn_runtime(core, metrics, quarantine, give_up=give_up))
        light, dispatcher = turns.light, turns.dispatcher
        settler = Settler(name)

        # not in a quarantine: the one of an old worker would put the limits of a rolling change back
        await Limiter(core.state, core.keys).install(settings.limits)
        await core.waker.wake(await lanes.sign_ins.key_is(settings.key_fingerprint))
        ends = Ends(
            lanes.pauses,
            lanes.floods,
            lanes.sign_ins,
            core.waker,
            flood_ratio=settings.flood_ratio,
            flood_least=settings.flood_least,
            leave_line=turns.desk.forget,
        )
        rounds = LightRounds(lanes, core.waker, light, dispatcher, settler, utc_now, settings.lease, ends)
        intake = Intake(lanes, core.waker, rounds, core.router.queue_of, _usher(core).to_wake)
        for task in await intake.start():
            task.add_done_callback(partial(_report, give_up))
        stack.push_async_callback(intake.close)
        largest = settings.max_event_bytes
        check = AllowLists.of(settings).check
        admission = Admission(
            intake, lanes, worker=name, max_event_bytes=largest, now=utc_now, mourner=ends, check=check
        )
        check_ins = CheckIns(core.state, core.keys, partial(check_in, SWEEPER, every_minutes=1))
        sweeper = Sweeper(lanes, core.waker.wake, check_ins.done if is_on() else None)
        sweeping = Rounds(sweeper.sweep, lambda: roll.live, failure="sweep_failed")
        await stack.enter_async_context(running(sweeping.run(), "sweeper", give_up))
        granting = Rounds(turns.desk.grant, lambda: roll.live, failure="grant_failed")
        await stack.enter_async_context(running(granting.run(), "granter", give_up))
        if settings.disconnect_grace is not None:
            abandoned = Abandoned(
                core.state,
                core.keys,
                grace=timedelta(seconds=settings.disconnect_grace),
                retention=timedelta(seconds=settings.retention),
                wake=core.waker.wake,
                leave_line=turns.desk.forget,
            )
            stopping = Rounds(abandoned.stop, lambda: roll.live, failure="abandoned_not_stopped")
            await stack.enter_async_context(running(stopping.run(), "abandoned", give_up))
        if settings.broker_url.startswith("redis"):
            client = connect_ingress(settings.broker_url)
            stack.push_async_callback(client.aclose)
            ingress = Ingress(client, core.keys.ingress, admission, owner=name)
            await stack.enter_async_context(running(ingress.run(), "ingress", give_up))
        take_back = TakeBack(core.database, turns.streams)
        runner = EventRunner(lanes, keeper, core.waker, dispatcher, settler, take_back, ends, metrics)
        cancel = OperatorCancel(lanes, core.waker, Limiter(core.state, core.keys))
        yield WorkerRuntime(runner, cancel, admission)


@asynccontextmanager
async def gateway_runtime(core: Core) -> AsyncIterator[GatewayParts]:
    """Everything that a gateway uses."""
    settings = core.settings
    keys = KeyRing.from_settings(settings)
    async with AsyncExitStack() as stack:
        readers = Readers(core.state, core.keys) if settings.disconnect_grace is not None else None
        if readers is not None:  # it ends after the streams, whose ends it tells
            await stack.enter_async_context(running(readers.run(), "readers", lambda: None))
        reader = FrameReader(core.state, core.keys, readers=readers)
        stack.push_async_callback(reader.close)
        store, revocations, minter = store_of(settings, core.state), revocations_of(settings), minter_of(settings, keys)
        feed = RevocationFeed(store, core.state, revocations)
        with unreachable("CHATKIT_STATE_URL", "is Redis up?", *STATE_ERRORS):
            await feed.look()  # before the first request: a restart must not forget who was signed out
        await stack.enter_async_context(running(feed.run(), "revocation-feed", lambda: None))  # it guards itself
        yield GatewayParts(
            settings=settings,
            allowed=AllowLists.of(settings),
            router=core.router,
            state=core.state,
            lanes=core.lanes,
            limiter=Limiter(core.state, core.keys),
            door=Door(core.state, core.keys, settings.user_rate),
            usher=_usher(core),
            database=core.database,
            waker=core.waker,
            reader=reader,
            verifier=TokenVerifier(keys, revocations),
            minter=minter,
            sessions=await stack.enter_async_context(open_provider(settings, store, minter, revocations)),
            deposits=SecretDeposits(core.state, core.keys),
            reads=Reads(core.database),
            pages=PageStates(core.database),
        )


def _models(settings: Settings) -> Models:
    return Models(settings.model, settings.fallback_model, settings.choosable_models)


def _usher(core: Core) -> Usher:
    settings = core.settings
    patterns = settings.event_filter

    @cache
    def patience(type_: str) -> timedelta | None:
        deadline = numbers_of(type_, settings).deadline
        return None if deadline is None else timedelta(seconds=deadline)

    return Usher(
        Limiter(core.state, core.keys),
        core.lanes,
        models=_models(settings),
        passes=FilterPolicy(patterns.allow, patterns.deny).passes,
        patience=lambda event: patience(event.type),
        now=utc_now,
    )


@asynccontextmanager
async def running(loop: Coroutine[Any, Any, None], name: str, give_up: GiveUp) -> AsyncIterator[None]:
    """A loop that runs as long as the context. One that ends by itself is a bug, and the process is given up: it must
    not sit there doing a part of its work."""
    task = asyncio.create_task(loop, name=name)
    task.add_done_callback(partial(_report, give_up))
    try:
        yield
    finally:
        while not task.done():
            # Again and again: redis-py sends inside `asyncio.wait_for`, which on Python 3.11 may swallow a cancel.
            task.cancel()
            await asyncio.wait([task], timeout=CANCEL_AGAIN_SECONDS)


def _report(give_up: GiveUp, task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        log.critical("loop_ended: %s", task.get_name(), exc_info=task.exception())
        give_up()


class WorkerProcess:
    """The one runtime of a worker process: opened when the pool's loop starts, closed after the drain."""

    def __init__(self, settings: Settings, app: Any, *, give_up: GiveUp, load: Callable[[], Load]) -> None:
        self._settings, self._app, self._give_up, self._load = settings, app, give_up, load
        self._stack = AsyncExitStack()
        self._runtime: WorkerRuntime | None = None

    @property
    def runtime(self) -> WorkerRuntime:
        if self._runtime is None:
            raise RuntimeError("the worker's runtime is not open")
        return self._runtime

    async def open(self) -> None:
        core = await self._stack.enter_async_context(open_core(self._settings, self._app))
        with unreachable("CHATKIT_DATABASE_URL", "is it up, and did `chatkit-workers db upgrade` run?", DatabaseError):
            await core.database.ping()
        self._runtime = await self._stack.enter_async_context(worker_runtime(core, self._load, give_up=self._give_up))

    async def close(self) -> None:
        self._runtime = None
        await self._stack.aclose()
