"""The scripts do what the model does, on fakeredis and on a real Redis."""

import fakeredis
import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.lane_machine import LaneMachine
from tests.machine_profile import profile
from workers.lanes.connection import State, connect


def fake() -> State:
    state: State = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
    return state


@pytest.mark.timeout(3600)
def test_scripts_do_what_the_model_does_on_fakeredis(request: pytest.FixtureRequest) -> None:
    class Machine(LaneMachine):
        def __init__(self) -> None:
            super().__init__(fake)

    run_state_machine_as_test(Machine, settings=profile(50, 40, long=request.config.getoption("--long")))


@pytest.mark.redis
@pytest.mark.timeout(3600)
def test_scripts_do_what_the_model_does_on_redis(request: pytest.FixtureRequest, redis_url: str) -> None:
    class Machine(LaneMachine):
        def __init__(self) -> None:
            super().__init__(lambda: connect(redis_url))

    run_state_machine_as_test(Machine, settings=profile(120, 50, long=request.config.getoption("--long")))
