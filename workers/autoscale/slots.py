"""Celery's `--autoscale max,min` of one worker: the same decision, about the slots of its pool."""

from time import monotonic
from typing import Any

from celery.worker import state
from celery.worker.autoscale import Autoscaler

from workers.autoscale.decision import Readings, ScalePolicy, decide, needed
from workers.autoscale.recent import Needed
from workers.pool import current_load
from workers.settings import load_settings


class PoolAutoscaler(Autoscaler):  # type: ignore[misc]  # Celery has no types
    """Celery asks it at each message and every `AUTOSCALE_KEEPALIVE` seconds. A slot goes when none of those needed it;
    what runs in it comes to its end."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        settings = load_settings()
        self._target_seconds, self._spare = settings.scale_target_age, settings.scale_spare
        self._needed = Needed(self.keepalive)
        self._waiting_since = monotonic()

    def _maybe_scale(self, req: Any = None) -> bool:
        now, policy = monotonic(), self._policy()
        readings = self._readings(now)
        lately = self._needed.most(needed(readings, policy).workers, now)
        change = decide(readings, policy, lately).workers - self.processes
        if change > 0:
            self._grow(change)
        elif change < 0:
            self._shrink(-change)
        return bool(change)

    def _readings(self, now: float) -> Readings:
        """A slot is a worker with room for one. What a task will take nobody knows: each that waits gets its own."""
        running, _ = current_load()
        waiting = max(0, len(state.reserved_requests) - running)
        if not waiting:
            self._waiting_since = now
        return Readings(
            ready=waiting,
            oldest_age_seconds=now - self._waiting_since,
            running=running,
            capacity=self.processes,
            workers=self.processes,
            service_seconds=self._target_seconds,
        )

    def _policy(self) -> ScalePolicy:
        """Anew each time: `celery control autoscale` changes the bounds."""
        return ScalePolicy(
            least=self.min_concurrency,
            most=self.max_concurrency,
            target_age_seconds=self._target_seconds,
            spare=self._spare,
            idle_seconds=self.keepalive,
            per_worker=1,
        )
