"""A script is found again after Redis forgot it."""

from typing import Any

import pytest
from redis.exceptions import ResponseError

from tests.lane_builders import Deployment, event
from workers.lanes.scripts import Call, Script, ScriptRunner, script


async def test_scripts_that_the_server_forgot_are_loaded_again(deployment: Deployment) -> None:
    await deployment.accepted(event())
    state: Any = deployment.state
    await state.script_flush()
    assert (await deployment.begun(event())).attempt == 1


async def test_the_first_call_of_each_shard_carries_the_source_when_order_matters() -> None:
    """Else it could fail for want of the script while a later one, after another client loaded it, overtakes it."""
    sent: list[str] = []
    calls = [Call(script("accept"), tag, [""]) for tag in ("a", "b", "a")]

    class Pipeline:
        def execute_command(self, command: str, *_: Any) -> None:
            sent.append(command)

        async def execute(self, *, raise_on_error: bool) -> list[Any]:
            assert not raise_on_error
            return []

    class State:
        def pipeline(self, *, transaction: bool) -> Pipeline:
            assert not transaction
            return Pipeline()

    await ScriptRunner(State()).run(calls, in_order=True)  # type: ignore[arg-type]  # only a pipeline is asked of it
    assert sent == ["EVAL", "EVAL", "EVALSHA"]


async def test_an_error_of_one_call_is_raised_after_the_others_ran(deployment: Deployment) -> None:
    runner = ScriptRunner(deployment.state)
    wrong = Script("wrong", "return redis.call('LPOP')")
    right = Script("right", "return redis.call('SET', KEYS[1], '1')")
    with pytest.raises(ResponseError):
        await runner.run([Call(wrong, "a", []), Call(right, "b", [])])
    assert await deployment.state.get("b") == b"1"
