"""Every script says what it promises, and is found again after Redis forgot it."""

from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

import workers.lanes
from tests.lane_builders import Deployment, event
from workers.lanes.scripts import Call, Script, ScriptRunner, script

FOLDER = Path(workers.lanes.__file__).parent / "scripts"
INCLUDED = {"clock", "fence", "frames", "ending", "dead", "paused", "window"}
NAMES = sorted(path.stem for path in FOLDER.glob("*.lua") if path.stem not in INCLUDED)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_begins_with_its_promise_keys_arguments_and_reply(name: str) -> None:
    header = [line for line in (FOLDER / f"{name}.lua").read_text().splitlines() if line.startswith("--")]
    assert header[0].startswith(f"-- {name}: ")
    for word in ("Promise:", "Keys:", "Arguments:", "Reply:"):
        assert any(line.startswith(f"-- {word}") for line in header), word


@pytest.mark.parametrize("name", NAMES)
def test_no_include_is_left_open(name: str) -> None:
    assert "--@include" not in script(name).source


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
