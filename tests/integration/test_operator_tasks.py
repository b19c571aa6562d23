"""What deploy/README.md tells an operator to do, done with its own commands to real processes."""

import asyncio
import re
import shlex
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.events import Event, thread_id_of
from schemas.outcome import EventState
from tests.builders import create_event
from tests.cli_process import Finished, cli
from tests.deployment import Deployment
from tests.eventually import eventually
from workers.publisher import Publisher

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

README = Path(__file__).resolve().parents[2] / "deploy" / "README.md"
TENANT = "acme"


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str) -> Iterator[Deployment]:
    with Deployment(redis_url, sqlite_url, CHATKIT_DRAIN_SECONDS="0.2") as deployment:
        yield deployment


def command_for(task: str, event: Event) -> list[str]:
    """The command of a task in the README's table, for this event, without the program's name."""
    [row] = [line for line in README.read_text().splitlines() if line.startswith(f"| **{task}** |")]
    command = re.findall(r"`chatkit-workers ([^`]+)`", row)[0]
    return shlex.split(command.replace("thr_…", thread_id_of(event.event_id)).replace("evt_…", event.event_id))


async def run(deployment: Deployment, *words: str) -> Finished:
    return await cli(*words, env=deployment.process_environment())


def publish(deployment: Deployment, text: str) -> Event:
    event = create_event(text, tenant=TENANT)
    with Publisher(deployment.broker_url) as publisher:
        publisher.publish(event)
    return event


async def comes_to(deployment: Deployment, event: Event, state: EventState) -> None:
    async with deployment.lanes() as lanes:

        async def there() -> bool:
            found = await lanes.status(event.event_id)
            return found is not None and found[0].state is state

        await eventually(there, within=60)


async def test_a_tenant_is_paused_its_stuck_thread_found_and_explained_and_what_that_says_sets_it_free(
    deployment: Deployment,
) -> None:
    deployment.worker("tests.model_worker")
    event = create_event("hello", tenant=TENANT)
    paused = await run(deployment, *command_for("Pause a tenant", event))
    assert (paused.code, paused.out) == (0, "tenant:acme is paused\n")
    with Publisher(deployment.broker_url) as publisher:
        publisher.publish(event)
    await comes_to(deployment, event, EventState.QUEUED)
    [found] = (await run(deployment, *command_for("Find a stuck thread", event), "--older", "0")).lines
    thread = thread_id_of(event.event_id)
    assert f"{TENANT}/{thread}" in found
    assert event.event_id in found
    shown = await run(deployment, *command_for("See why", event), "--json")
    [lane] = shown.records
    assert (lane["head"], lane["state"], lane["events"]) == (event.event_id, "queued", 1)
    remedy = re.fullmatch(r"paused until `chatkit-workers ([^`]+)`", lane["why"])
    assert remedy is not None
    assert remedy[1] in found
    assert (await run(deployment, *shlex.split(remedy[1]))).code == 0
    await comes_to(deployment, event, EventState.DONE)
    nothing = await run(deployment, *command_for("See why", event))
    assert nothing.code == 1
    assert nothing.err.startswith(f"error: nothing waits or runs in {TENANT}/{thread}")


async def test_a_dead_letter_is_redriven_once_its_cause_is_mended(deployment: Deployment) -> None:
    broken = deployment.worker("tests.model_worker")
    event = publish(deployment, "stumble")
    await comes_to(deployment, event, EventState.DEAD)
    why = await run(deployment, "lanes", "show", event.event_id)
    assert (why.code, f"{event.event_id} has ended: dead (" in why.err) == (1, True)
    assert f"`chatkit-workers dead show {event.event_id}`" in why.err
    assert await asyncio.to_thread(broken.stop) == 0
    deployment.worker()  # with the scripted model, which does not stumble
    redriven = await run(deployment, *command_for("Redrive a dead letter", event))
    assert (redriven.code, redriven.out) == (0, f"{event.event_id} redriven\n")
    await comes_to(deployment, event, EventState.DONE)


async def test_a_worker_is_drained_by_sigterm_and_its_turn_goes_on_in_another(deployment: Deployment) -> None:
    slow = {"TEST_DELTAS": "2400", "TEST_DELTA_MS": "50"}  # two minutes: longer than this test takes
    leaving = deployment.worker("tests.model_worker", **slow)
    event = publish(deployment, "hello")
    await comes_to(deployment, event, EventState.RUNNING)
    staying = deployment.worker("tests.model_worker", **slow)
    old, new = (f"{socket.gethostname()}:{worker.pid}" for worker in (leaving, staying))
    [stats] = (await run(deployment, "stats", "--json")).records
    assert stats["workers"] == sorted([old, new])
    [lane] = (await run(deployment, *command_for("See why", event), "--json")).records
    assert (lane["why"], lane["worker"], lane["deaths"]) == (f"runs in {old}", old, 0)
    leaving.signal(signal.SIGTERM)
    assert await asyncio.to_thread(leaving.wait, 20) == 0
    [lane] = (await run(deployment, *command_for("See why", event), "--json")).records
    assert (lane["why"], lane["attempt"]) == (f"runs in {new}", 1)
    [stats] = (await run(deployment, "stats", "--json")).records
    assert stats["workers"] == [new]
