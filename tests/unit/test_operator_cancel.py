"""An operator's wish to stop an event, wherever it stands."""

from collections.abc import AsyncIterator, Sequence

import pytest
from fakeredis import FakeAsyncRedis

from schemas.outcome import Cancelled, CancelReason, EventState
from tests.lane_builders import Deployment, deployment_on, done, event
from workers.lanes.records import Wake
from workers.limits.limiter import Limiter
from workers.operator_cancel import OperatorCancel

FIRST, SECOND = event("e1"), event("e2")
CANCELLED = Cancelled(CancelReason.OPERATOR)


class Stage:
    """Lanes, and a waker that remembers."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.woken: list[str] = []
        self.cancel = OperatorCancel(deployment.lanes, self, Limiter(deployment.state, deployment.keys))

    async def wake(self, wakes: Sequence[Wake]) -> None:
        self.woken += [wake.event_id for wake in wakes]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    state = FakeAsyncRedis()
    yield Stage(deployment_on(state, "ck"))
    await state.aclose()


async def test_a_waiting_event_is_cancelled_and_what_goes_on_is_woken(stage: Stage) -> None:
    await stage.deployment.accepted(FIRST, SECOND)
    assert await stage.cancel(FIRST.event_id) == CANCELLED
    assert stage.woken == [SECOND.event_id]
    assert await stage.cancel(FIRST.event_id) == CANCELLED  # a late wake-up says what became of it


async def test_a_run_has_to_end_what_runs(stage: Stage) -> None:
    await stage.deployment.started(FIRST)
    assert await stage.cancel(FIRST.event_id) is None
    found = await stage.deployment.lanes.status(FIRST.event_id)
    assert found is not None
    assert found[0].state is EventState.RUNNING


async def test_what_has_ended_in_another_way_stays_so(stage: Stage) -> None:
    lease = await stage.deployment.started(FIRST)
    await stage.deployment.lanes.settle([done(lease)])
    assert await stage.cancel(FIRST.event_id) is None
    assert await stage.cancel("evt_unknown") is None
