"""Waiting for a state that is away."""

import asyncio
from datetime import timedelta

import pytest
from redis.exceptions import ConnectionError as StateConnectionError
from redis.exceptions import ReadOnlyError, ResponseError

from workers.lanes import patience
from workers.lanes.patience import persistently

FEW = "NOREPLICAS Not enough good replicas to write."


class Away:
    """A state that answers after some failures."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self._failures:
            raise self._failures.pop(0)
        return "answer"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "MIN_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(patience, "MAX_PAUSE_SECONDS", 0.002)


async def test_it_is_asked_until_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    state = Away(StateConnectionError("refused"), TimeoutError(), ReadOnlyError("a replica"), ResponseError(FEW))
    assert await persistently(state, told="waiting") == "answer"
    assert state.calls == 5
    assert [record.message for record in caplog.records] == ["waiting"] * 4


async def test_when_the_time_is_up_the_last_failure_is_raised() -> None:
    state = Away(*[StateConnectionError("refused")] * 1_000)
    with pytest.raises(StateConnectionError):
        await persistently(state, told="waiting", within=timedelta(milliseconds=20))
    assert 1 < state.calls < 1_000


@pytest.mark.parametrize("error", [KeyError("a bug"), ResponseError("user_script:7: attempt to index a nil value")])
async def test_an_error_of_the_program_is_raised_at_once(error: Exception) -> None:
    state = Away(error)
    with pytest.raises(type(error)):
        await persistently(state, told="waiting")
    assert state.calls == 1


async def test_a_cancellation_ends_the_waiting() -> None:
    waiting = asyncio.create_task(persistently(Away(*[TimeoutError()] * 1_000_000), told="waiting"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
