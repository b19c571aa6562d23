"""The rate-limit queue end to end: real workers, a real provider's answers over HTTP, real Redis."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis
import redis.asyncio

from schemas.events import Event, parse_event
from schemas.outcome import EventState
from schemas.records import EventStatus
from tests.builders import create_event, message_event
from tests.cli_process import Finished, cli
from tests.deployment import SERVICE, Deployment
from tests.eventually import eventually
from tests.integration.test_worker import ended, frames, publish
from workers.lanes.lanes import Lanes
from workers.testing.provider import FakeProvider
from workers.testing.provider_steps import Hang, Late, Status, Step, Text, Tool
from workers.testing.provider_wire import Json

pytestmark = pytest.mark.redis

EVERYTHING = ("on", ">secret", "allkeys", "allchannels", "allcommands")
BUT_THE_LIMITS = [f"~ck:{name}*" for name in ("{s", "where", "workers", "ingress", "shards", "sign")]
"""What a user of Redis may touch that stands for a worker from which the node of the limits is away."""


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str, provider: FakeProvider) -> Iterator[Deployment]:
    with Deployment(
        redis_url,
        sqlite_url,
        **provider.environment,
        CHATKIT_BACKOFF_BASE="0.2",
    ) as deployment:
        yield deployment


async def run(deployment: Deployment, *arguments: str) -> Finished:
    return await cli(*arguments, env=deployment.process_environment())


async def status(lanes: Lanes, event: Event) -> EventStatus:
    found = await lanes.status(event.event_id)
    assert found is not None
    return found[0]


async def comes_to(lanes: Lanes, event: Event, state: EventState, within: float = 10) -> EventStatus:
    async def there() -> bool:
        found = await lanes.status(event.event_id)
        return found is not None and found[0].state is state

    assert await eventually(there, within=within)
    return await status(lanes, event)


def session_start(event: Event) -> Event:
    """Of the user of an event."""
    who = {"source": "/tests", "id": f"signed-in-{event.event_id}", "tenant": event.tenant, "userid": event.userid}
    return parse_event({**who, "specversion": "1.0", "type": "chatkit.session.start", "data": {}})


def events(count: int, **attributes: Any) -> list[Event]:
    return [create_event(f"question {number}", **attributes) for number in range(count)]


async def test_a_refused_call_waits_for_the_provider_and_spends_no_attempt(
    deployment: Deployment, provider: FakeProvider
) -> None:
    deployment.worker()
    provider.plan(Status(429, headers={"retry-after": "2"}), Text("Here you are."))
    [event] = events(1)
    publish(deployment, event)
    async with deployment.lanes() as lanes:
        waiting = await comes_to(lanes, event, EventState.WAITING_LIMIT)
        assert waiting.reason == "rate_limit"
        assert await ended(lanes, event) is EventState.DONE
        assert (await status(lanes, event)).attempt == 1
    first, second = provider.calls
    assert 2.0 <= second.at - first.at < 10


async def test_a_refusal_of_one_worker_holds_the_others(deployment: Deployment, provider: FakeProvider) -> None:
    deployment.worker()
    deployment.worker()
    provider.plan(Status(429, headers={"retry-after-ms": "3000"}))
    first, *others = events(9)
    publish(deployment, first)
    async with deployment.lanes() as lanes:
        await comes_to(lanes, first, EventState.WAITING_LIMIT)
        publish(deployment, *others)
        for event in (first, *others):
            assert await ended(lanes, event) is EventState.DONE
    assert min(call.at for call in provider.calls[1:]) - provider.calls[0].at >= 3.0


async def test_who_waits_is_told_place_and_time_and_holds_no_slot(
    deployment: Deployment, provider: FakeProvider
) -> None:
    deployment.worker("workers.app", "--concurrency", "2", CHATKIT_LIMITS='{"models": {"*": {"rpm": 60}}}')
    gateway = deployment.gateway()
    waiting = events(6)
    publish(deployment, *waiting)
    last = waiting[-1]
    async with deployment.lanes() as lanes:
        await comes_to(lanes, last, EventState.WAITING_LIMIT)
        async with httpx.AsyncClient(base_url=gateway, headers=SERVICE, timeout=20) as http:
            answer = (await http.get(f"/v1/events/{last.event_id}")).json()
            assert (answer["state"], answer["reason"]) == ("waiting_limit", "rate_limit")
            assert 1 <= answer["place"] <= 5
            assert answer["place"] - 1.5 <= answer["eta_seconds"] <= answer["place"] + 0.5
            [shown] = (await run(deployment, "events", "show", last.event_id, "--json")).records
            assert shown["place"] <= answer["place"]
            async with http.stream("GET", f"/v1/events/{last.event_id}/stream") as stream:
                blocks = "".join([text async for text in stream.aiter_text()]).split("\n\n")
        told = [block for block in blocks if "in line, about" in block]
        assert told
        assert all("id:" not in block for block in told)
        [stats] = (await run(deployment, "stats", "--json")).records
        assert "in line" in stats["models"]["gpt-4.1"]
        for event in waiting:
            assert await ended(lanes, event) is EventState.DONE
    assert 4.5 <= provider.calls[-1].at - provider.calls[0].at < 15  # six calls, one a second


async def test_what_waits_holds_no_message(deployment: Deployment) -> None:
    deployment.worker(CHATKIT_LIMITS='{"models": {"*": {"rpm": 1}}}')
    waiting = events(6)
    publish(deployment, *waiting)
    broker = redis.asyncio.Redis.from_url(deployment.broker_url)
    async with deployment.lanes() as lanes:

        async def all_but_one_wait() -> bool:
            return (await lanes.depth()).states[EventState.WAITING_LIMIT] == len(waiting) - 1

        assert await eventually(all_but_one_wait)
        keys = [key async for key in broker.scan_iter() if not key.startswith(b"ck:")]
        queued = [key for key in keys if await broker.type(key) == b"list"]
        unacked = [key for key in keys if b"unacked" in key and await broker.type(key) in (b"hash", b"zset")]
        await broker.aclose()
        assert (queued, unacked) == ([], [])  # Redis has no empty ones
        assert await all_but_one_wait()


async def test_what_is_dropped_in_line_leaves_it(deployment: Deployment) -> None:
    deployment.worker(CHATKIT_LIMITS='{"models": {"*": {"rpm": 1}}}')
    [first], [stale] = events(1), events(1, expirytime=_in(4))
    async with deployment.lanes() as lanes:
        publish(deployment, first)
        assert await ended(lanes, first) is EventState.DONE
        publish(deployment, stale)
        await comes_to(lanes, stale, EventState.WAITING_LIMIT)
        assert await ended(lanes, stale) is EventState.DROPPED

        async def nobody_in_line() -> bool:
            [shown] = (await run(deployment, "limits", "show", "--json")).records
            return bool(shown["models"][0]["waiting"] == 0)

        assert await eventually(nobody_in_line)


async def test_what_the_provider_tells_one_worker_of_what_remains_holds_another(
    deployment: Deployment, provider: FakeProvider
) -> None:
    limits = '{"models": {"*": {"rpm": 12}}}'
    deployment.worker("workers.app", "-Q", "chatkit.events,chatkit.interactive", CHATKIT_LIMITS=limits)
    deployment.worker("workers.app", "-Q", "chatkit.background", CHATKIT_LIMITS=limits)
    provider.headers = {"x-ratelimit-remaining-requests": "0"}
    provider.plan(Late(4, Text("Here you are.")))
    [of_one], [of_the_other] = events(1), events(1, priority="background")
    publish(deployment, of_one, of_the_other)
    async with deployment.lanes() as lanes:
        for event in (of_one, of_the_other):
            assert await ended(lanes, event, within=25) is EventState.DONE
    first, second = provider.calls
    assert second.at - first.at > 8.5  # by our own count it would have been 5 s: the headers came 4 s late


async def test_limits_change_at_run_time_for_all_workers(deployment: Deployment, provider: FakeProvider) -> None:
    deployment.worker(CHATKIT_LIMITS='{"models": {"*": {"rpm": 1}}}')
    waiting = events(4)
    publish(deployment, *waiting)
    async with deployment.lanes() as lanes:
        await comes_to(lanes, waiting[-1], EventState.WAITING_LIMIT)
        wrong = await run(deployment, "limits", "set", '{"models": {"*": {"rpm": -1}, "x": {"speed": 1}}}')
        assert wrong.code == 1
        assert "models.*.rpm" in wrong.err
        assert "models.x.speed" in wrong.err
        assert (await run(deployment, "limits", "set", '{"models": {"*": {"rpm": 6000}}}')).code == 0
        for event in waiting:
            assert await ended(lanes, event) is EventState.DONE
        [shown] = (await run(deployment, "limits", "show", "--json")).records
        assert shown["limits"]["models"] == {"*": {"rpm": 6000}}
        assert shown["models"][0]["model"] == "gpt-4.1"
        assert "gpt-4.1: rpm 6000" in (await run(deployment, "limits", "show")).out


async def test_a_cancelled_event_leaves_the_line(deployment: Deployment) -> None:
    deployment.worker()
    first, second, third = events(3)
    async with deployment.lanes() as lanes:
        publish(deployment, first)
        assert await ended(lanes, first) is EventState.DONE
        await run(deployment, "limits", "set", '{"models": {"*": {"rpm": 2}}}')
        publish(deployment, second, third)
        await comes_to(lanes, third, EventState.WAITING_LIMIT)
        assert (await run(deployment, "events", "cancel", third.event_id)).code == 0
        assert await ended(lanes, third) is EventState.CANCELLED
        [shown] = (await run(deployment, "limits", "show", "--json")).records
        assert shown["models"][0]["waiting"] == 0


@pytest.mark.parametrize(
    ("seconds", "count"), [(12, 100), pytest.param(60, 600, marks=[pytest.mark.long, pytest.mark.timeout(300)])]
)
async def test_a_provider_that_is_down_costs_few_calls_and_no_event(
    deployment: Deployment, provider: FakeProvider, seconds: int, count: int
) -> None:
    down_until, up = time.monotonic() + seconds, False

    def answer(_: Json) -> Step:
        return Text("Here you are.") if up else Status(500)

    provider.answer = answer
    deployment.worker(CHATKIT_LIMITS='{"models": {"*": {"concurrency": 5}}}')
    waiting = events(count)
    following = message_event(str(waiting[0].thread_id), "and then?")
    publish(deployment, *waiting, following)
    async with deployment.lanes() as lanes:
        await comes_to(lanes, waiting[-1], EventState.WAITING_LIMIT, within=30)

        async def is_open() -> bool:
            said = (await run(deployment, "stats", "--json")).records[0]
            return str(said["models"]["gpt-4.1"]).endswith("circuit open")

        await eventually(is_open)
        await asyncio.sleep(max(0.0, down_until - time.monotonic()))
        up = True
        for event in (*waiting, following):
            assert await ended(lanes, event, within=seconds + 60) is EventState.DONE
        assert (await lanes.depth()).dead == {}
    probes = 5  # after 5, 10, 20, 40 and 60 seconds
    assert len(provider.calls) <= (count + 1) * 1.1 + probes
    answered = [call.body["input"] for call in provider.calls if isinstance(call.step, Text)]
    texts = [str(body) for body in answered]
    assert next(i for i, text in enumerate(texts) if "question 0'" in text) < next(
        i for i, text in enumerate(texts) if "and then?" in text
    )  # the order of the conversation is kept


async def test_while_the_circuit_is_open_the_fallback_model_answers(
    deployment: Deployment, provider: FakeProvider
) -> None:
    def answer(body: Json) -> Step:
        return Text("From the small one.") if body["model"] == "small" else Status(500)

    provider.answer = answer
    deployment.worker(CHATKIT_FALLBACK_MODEL="small", CHATKIT_LIMITS='{"models": {"*": {"concurrency": 5}}}')
    waiting = events(20)
    publish(deployment, *waiting)
    async with deployment.lanes() as lanes:
        for event in waiting:
            assert await ended(lanes, event, within=20) is EventState.DONE
    assert sum(call.body["model"] == "small" for call in provider.calls) == 20


async def test_nobody_signs_in_before_the_deadline(deployment: Deployment, provider: FakeProvider) -> None:
    deployment.worker()
    provider.answer = lambda _: Status(401)
    soon = create_event("question", expirytime=_in(10))
    publish(deployment, soon)
    async with deployment.lanes() as lanes:
        # its deadline comes before the next look: what nobody has signed in for is for an operator
        assert await ended(lanes, soon) is EventState.DEAD
        assert (await status(lanes, soon)).reason == "authentication"
    first, last = provider.calls
    assert last.at - first.at > 3  # not at the first refusal: somebody might have signed in


@pytest.mark.parametrize("way", ["session", "session.start", "another key"])
async def test_credentials_that_are_refused_wait_for_new_ones(
    deployment: Deployment, provider: FakeProvider, way: str
) -> None:
    worker = deployment.worker()
    provider.answer = lambda _: Status(401)
    event, theirs = create_event("question"), create_event("question", userid="u2")
    publish(deployment, event, theirs)
    async with deployment.lanes() as lanes:
        for one in (event, theirs):
            waiting = await comes_to(lanes, one, EventState.WAITING_LIMIT)
            assert (waiting.reason, waiting.attempt) == ("authentication", 1)
            assert b"sign in again" in await frames(deployment, lanes, one)
        provider.answer = lambda _: Text("Welcome back.")

        since = time.monotonic()
        if way == "session":
            async with httpx.AsyncClient(base_url=deployment.gateway(), headers=SERVICE) as http:
                answer = await http.post("/v1/sessions", json={"user": event.userid, "tenant": event.tenant})
                assert answer.status_code == 200, answer.text
        elif way == "session.start":
            publish(deployment, session_start(event))
        else:
            worker.stop()
            deployment.worker(OPENAI_API_KEY="sk-another")
        assert await ended(lanes, event) is EventState.DONE
        assert time.monotonic() - since < 25  # its own alarm comes after 30 s or more
        if way == "another key":
            assert await ended(lanes, theirs) is EventState.DONE
        else:
            assert (await status(lanes, theirs)).state is EventState.WAITING_LIMIT
        assert (await status(lanes, event)).attempt == 1


async def test_an_account_without_quota_is_a_dead_letter_and_opens_the_circuit(
    deployment: Deployment, provider: FakeProvider
) -> None:
    deployment.worker()
    provider.plan(Status(429, code="insufficient_quota"))
    first, second = events(2)
    publish(deployment, first)
    async with deployment.lanes() as lanes:
        assert await ended(lanes, first) is EventState.DEAD
        [listed] = (await run(deployment, "dead", "list", "--json")).records
        assert listed["reason"] == "quota"
        publish(deployment, second)
        assert (await comes_to(lanes, second, EventState.WAITING_LIMIT)).reason == "circuit_open"
    assert len(provider.calls) == 1


async def test_a_killed_worker_gives_its_place_in_flight_back(deployment: Deployment, provider: FakeProvider) -> None:
    first = deployment.worker(CHATKIT_LIMITS='{"models": {"*": {"concurrency": 1}}}', CHATKIT_LEASE_TTL="2")
    provider.plan(Hang())
    running, waiting = events(2)
    publish(deployment, running)
    async with deployment.lanes() as lanes:

        async def asked() -> bool:
            return len(provider.calls) == 1

        assert await eventually(asked)
        publish(deployment, waiting)
        await comes_to(lanes, waiting, EventState.WAITING_LIMIT)
        first.kill()
        deployment.worker(CHATKIT_LIMITS='{"models": {"*": {"concurrency": 1}}}', CHATKIT_LEASE_TTL="2")
        assert await ended(lanes, running, within=20) is EventState.DONE
        assert await ended(lanes, waiting, within=45) is EventState.DONE


def _in(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


async def test_while_the_limits_cannot_be_asked_no_model_is_called_and_nothing_is_lost(
    deployment: Deployment, provider: FakeProvider
) -> None:
    """The node of a cluster that holds the limits is away: everything else of the state answers."""
    operator: Any = redis.asyncio.Redis.from_url(deployment.state_url)
    await operator.execute_command("ACL", "SETUSER", "node", *EVERYTHING)
    try:
        deployment.worker(CHATKIT_STATE_URL=deployment.state_url.replace("://", "://node:secret@"))
        await operator.execute_command("ACL", "SETUSER", "node", "resetkeys", *BUT_THE_LIMITS)
        waiting = events(3)
        publish(deployment, *waiting)
        async with deployment.lanes() as lanes:
            for event in waiting:
                assert (await comes_to(lanes, event, EventState.WAITING_LIMIT)).reason == "limiter_away"
            assert provider.calls == []
            await operator.execute_command("ACL", "SETUSER", "node", "allkeys")
            for event in waiting:
                assert await ended(lanes, event) is EventState.DONE
                assert (await status(lanes, event)).attempt == 1
        assert len(provider.calls) == len(waiting)
    finally:
        await operator.execute_command("ACL", "DELUSER", "node")
        await operator.aclose()


async def test_limits_that_are_cut_off_between_two_calls_of_a_turn_park_it(
    deployment: Deployment, provider: FakeProvider
) -> None:
    operator: Any = redis.Redis.from_url(deployment.state_url)
    operator.execute_command("ACL", "SETUSER", "node", *EVERYTHING)

    def answer(_: Json) -> Step:
        if provider.calls:
            return Text("Your order is shipped.")
        operator.execute_command("ACL", "SETUSER", "node", "resetkeys", *BUT_THE_LIMITS)
        return Tool("show_notice", {"message": "one moment", "level": "info"})

    provider.answer = answer
    try:
        deployment.worker(CHATKIT_STATE_URL=deployment.state_url.replace("://", "://node:secret@"))
        [event] = events(1)
        publish(deployment, event)
        async with deployment.lanes() as lanes:
            assert (await comes_to(lanes, event, EventState.WAITING_LIMIT)).reason == "limiter_away"
            assert len(provider.calls) == 1
            operator.execute_command("ACL", "SETUSER", "node", "allkeys")
            assert await ended(lanes, event) is EventState.DONE
            assert (await status(lanes, event)).attempt == 1
    finally:
        operator.execute_command("ACL", "DELUSER", "node")
        operator.close()
