"""What the state says of the load, and what follows from it for the workers: the answer of `GET /v1/scale`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from schemas.outcome import EventState
from workers.autoscale.decision import Decision, Quota, Readings, ScalePolicy, decide, needed
from workers.autoscale.recent import Recent
from workers.lanes.connection import State
from workers.lanes.deployment import keys_of
from workers.lanes.figures import Figures, Load, Told
from workers.lanes.records import Depth
from workers.limits.limiter import Limiter, ModelStatus
from workers.settings import Settings

UNKNOWN_SERVICE_SECONDS = 5.0
"""Until a first turn has told."""

SHORTEST_SERVICE_SECONDS = 0.01


class Depths(Protocol):
    """The part of `Lanes` that is asked."""

    async def depth(self) -> Depth: ...


@dataclass(frozen=True, slots=True)
class Scale:
    """How a deployment stands, and the workers that it should have."""

    readings: Readings
    waiting_retry: int
    waiting_limit: int
    decision: Decision

    def record(self) -> dict[str, float]:
        """As HTTP and the command line tell it."""
        readings = self.readings
        return {
            "ready": readings.ready,
            "running": readings.running,
            "waiting_retry": self.waiting_retry,
            "waiting_limit": self.waiting_limit,
            "oldest_age_seconds": readings.oldest_age_seconds,
            "capacity": readings.capacity,
            "workers": readings.workers,
            "desired_workers": self.decision.workers,
        }


class Scaler:
    """Looks, and decides. Asking does not change the answer, but for what it remembers of when workers were needed."""

    def __init__(self, settings: Settings, state: State, lanes: Depths, policy: ScalePolicy | None = None) -> None:
        """`policy`: another than that of the settings."""
        keys = keys_of(settings)
        self.policy = policy or policy_of(settings)
        self._settings, self._lanes = settings, lanes
        self._figures, self._limiter, self._recent = Figures(state, keys), Limiter(state, keys), Recent(state, keys)

    async def look(self) -> Scale:
        """Read, and decide. Raises what the state does."""
        return await self.decide(*await self.read())

    async def read(self) -> tuple[Depth, Told, list[ModelStatus]]:
        """What a decision is taken from."""
        models = await self._limiter.status(self._settings.model)
        return await self._lanes.depth(), await self._figures.read(), models

    async def decide(
        self, depth: Depth, told: Told, models: Sequence[ModelStatus], *, starting: frozenset[str] = frozenset()
    ) -> Scale:
        """Decide by what was read. `starting`: workers that were started; those that have told nothing yet will work
        as the others do."""
        loads = told.loads
        readings = await self._readings(depth, list(loads.values()), models, len(starting - loads.keys()))
        within = timedelta(seconds=self.policy.idle_seconds)
        lately = await self._recent.most_needed(needed(readings, self.policy).workers, within)
        states = depth.states
        return Scale(
            readings,
            waiting_retry=states[EventState.WAITING_RETRY],
            waiting_limit=states[EventState.WAITING_LIMIT],
            decision=decide(readings, self.policy, lately),
        )

    async def _readings(
        self, depth: Depth, loads: Sequence[Load], models: Sequence[ModelStatus], starting: int
    ) -> Readings:
        working = [load for load in loads if load.limit]  # one that drains takes no more
        drained = sum(load.running for load in loads if not load.limit)
        capacity = sum(load.limit for load in working)
        each = capacity // len(working) if working else self.policy.per_worker
        seconds = await self._recent.service_seconds()
        return Readings(
            ready=depth.ready,
            oldest_age_seconds=depth.ready_age_seconds,
            running=max(depth.leases - drained, sum(load.running for load in working)),
            capacity=capacity + starting * each,
            workers=len(working) + starting,
            starting=starting,
            service_seconds=max(seconds or UNKNOWN_SERVICE_SECONDS, SHORTEST_SERVICE_SECONDS),
            quotas=quotas_of(models, self._settings.model),
        )


def policy_of(settings: Settings, *, least: int | None = None, most: int | None = None) -> ScalePolicy:
    """That of the settings, with other bounds where they are given."""
    return ScalePolicy(
        least=settings.scale_min if least is None else least,
        most=settings.scale_max if most is None else most,
        target_age_seconds=settings.scale_target_age,
        spare=settings.scale_spare,
        idle_seconds=settings.scale_idle,
        per_worker=settings.concurrency,
    )


def quotas_of(models: Sequence[ModelStatus], model: str) -> tuple[Quota, ...]:
    """Of the models that turns use: the deployment's, and whichever others are called or waited for."""
    return tuple(_quota(one) for one in models if one.model == model or one.in_flight or one.waiting)


def _quota(model: ModelStatus) -> Quota:
    if model.circuit != "closed":
        return Quota(starts_per_second=0.0, running=0.0)
    calls = max(1.0, model.calls_per_turn)
    rates = [model.rpm / calls] if model.rpm is not None else []
    if model.tpm is not None and model.tokens_per_call:
        rates.append(model.tpm / (calls * model.tokens_per_call))
    return Quota(
        starts_per_second=min(rates) * model.ceiling / 60 if rates else None,
        running=model.concurrency * model.ceiling if model.concurrency is not None else None,
    )
