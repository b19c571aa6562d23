"""Reservations, the line, and what the provider's answers change."""

from datetime import timedelta

import pytest

from tests.limit_builders import GRANT, LEASE, MODEL, Stand
from workers.policies.rate_limit import InLine, Reserved, Verdict
from workers.setting_types import Limits

MINUTE = timedelta(minutes=1)


async def test_without_limits_everything_is_reserved_and_nothing_is_left_behind(stand: Stand) -> None:
    reservations = [await stand.reserved(str(number)) for number in range(50)]
    assert (await stand.status()).in_flight == 50
    for one in reservations:
        await stand.settle(one)
    assert await stand.keys() == set()


@pytest.mark.parametrize(
    ("limits", "at_once"),
    [
        ({"rpm": 600}, 5),  # ten a second: half a second's worth at once
        ({"rpm": 6}, 1),
        ({"concurrency": 3}, 3),
        ({"tpm": 60_000}, 5),  # a hundred tokens each, half a second's worth
        ({"tenants": {"*": {"rpm": 600}}}, 5),
        ({"users": {"*": {"rpm": 600}}}, 5),
    ],
)
async def test_each_limit_lets_its_burst_through_and_then_makes_wait(
    stand: Stand, limits: dict[str, object], at_once: int
) -> None:
    await stand.limit(**limits)
    for number in range(at_once):
        await stand.reserved(str(number), tokens=100)
    waits = await stand.waits("late", tokens=100)
    assert (waits.place, waits.reason) == (1, "rate_limit")


async def test_all_or_none_what_one_limit_refuses_is_taken_from_no_other(stand: Stand) -> None:
    await stand.limit(rpm=600, concurrency=1)
    await stand.reserved("a")
    used = (await stand.status()).used_rpm
    await stand.waits("b")
    assert (await stand.status()).used_rpm == used


async def test_a_rate_comes_back_with_time_and_the_line_is_served_in_order(stand: Stand) -> None:
    await stand.limit(rpm=60)
    await stand.reserved("a")
    assert [(await stand.waits(name)).place for name in "bcd"] == [1, 2, 3]
    assert await stand.granted() == []
    stand.turn(1)
    assert await stand.granted() == ["b"]
    stand.turn(1)
    assert await stand.granted() == ["c"]
    assert isinstance(await stand.ask("b"), Reserved)


async def test_a_newcomer_never_overtakes_the_line(stand: Stand) -> None:
    await stand.limit(rpm=60)
    await stand.reserved("a")
    await stand.waits("b")
    stand.turn(10)
    assert isinstance(await stand.ask("c"), InLine)
    assert await stand.granted() == ["b"]


async def test_asking_again_says_the_place_again_and_takes_no_second_ticket(stand: Stand) -> None:
    await stand.limit(rpm=60)
    await stand.reserved("a")
    first, second = await stand.waits("b"), await stand.waits("b", token="t2")
    assert first == second
    assert (await stand.status()).waiting == 1


async def test_the_same_token_gets_the_same_answer_and_takes_nothing_twice(stand: Stand) -> None:
    await stand.limit(concurrency=2)
    first, second = await stand.reserved("a"), await stand.reserved("a")
    assert first == second
    assert (await stand.status()).in_flight == 1
    assert isinstance(await stand.ask("b"), Reserved)


async def test_a_reservation_is_a_lease_that_a_dead_worker_gives_back(stand: Stand) -> None:
    await stand.limit(concurrency=1)
    held = await stand.reserved("a")
    await stand.waits("b")
    stand.turn(LEASE.total_seconds() - 1)
    await stand.limiter.renew([held], LEASE)
    stand.turn(LEASE.total_seconds() - 1)
    assert await stand.granted() == []
    stand.turn(2)
    assert await stand.granted() == ["b"]


async def test_an_untaken_grant_goes_back_to_the_front_and_gives_back_what_it_took(stand: Stand) -> None:
    await stand.limit(rpm=60, concurrency=5)
    await stand.reserved("a")
    for name in "bc":
        await stand.waits(name)
    stand.turn(1)
    assert await stand.granted() == ["b"]
    assert (await stand.status()).in_flight == 2
    stand.turn(GRANT.total_seconds())
    assert await stand.granted() == ["b"]  # first again, and before c
    assert (await stand.status()).in_flight == 2


async def test_what_was_estimated_is_settled_to_what_was_used(stand: Stand) -> None:
    await stand.limit(tpm=60_000)
    held = await stand.reserved("a", tokens=500)  # all of half a second
    await stand.waits("b", tokens=400)
    assert await stand.settle(held, tokens=100) == ["b"]
    later = await stand.reserved("b")
    assert await stand.settle(later, tokens=5000) == []
    await stand.waits("c", tokens=1)
    stand.turn(5)
    assert await stand.granted() == []
    stand.turn(0.2)
    assert await stand.granted() == ["c"]


async def test_settling_twice_changes_nothing(stand: Stand) -> None:
    await stand.limit(tpm=60_000, concurrency=1)
    held = await stand.reserved("a", tokens=500)
    await stand.settle(held, tokens=100)
    used = (await stand.status()).used_tpm
    assert await stand.settle(held, tokens=900) == []
    assert (await stand.status()).used_tpm == used


async def test_a_run_that_called_no_model_gives_all_back_that_it_took(stand: Stand) -> None:
    one_a_minute = {"*": {"rpm": 1}}
    await stand.limit(models={MODEL: {"rpm": 1, "tpm": 60}}, tenants=one_a_minute, users=one_a_minute)
    await stand.settle(await stand.reserved("a", tokens=60), "neutral", calls=0)
    assert isinstance(await stand.ask("b"), Reserved)


@pytest.mark.parametrize("verdict", ["ok", "neutral", "failed"])
async def test_a_call_that_began_is_counted_and_without_a_word_of_its_use_is_taken_at_its_estimate(
    stand: Stand, verdict: Verdict
) -> None:
    await stand.limit(rpm=60_000, tpm=60_000)
    held = await stand.reserved("a", tokens=2000)
    await stand.limiter.next_call(held, 2, MINUTE)
    used = await stand.status()
    await stand.settle(held, verdict, calls=2, measured=0)
    after = await stand.status()
    assert (after.used_rpm, after.used_tpm, after.tokens_per_call) == (used.used_rpm, used.used_tpm, 0)


async def test_of_the_calls_of_a_run_those_that_said_what_they_used_are_settled_to_it(stand: Stand) -> None:
    await stand.limit(tpm=60_000)
    held = await stand.reserved("a", tokens=2000)
    await stand.limiter.next_call(held, 2, MINUTE)
    await stand.settle(held, "neutral", calls=2, measured=1, tokens=100)
    await stand.waits("b", tokens=500)
    stand.turn(2.0)
    assert await stand.granted() == []
    stand.turn(0.2)  # 2.1 s for the 2100 tokens: half a second's worth fits in again
    assert await stand.granted() == ["b"]


async def test_a_call_that_was_charged_and_not_made_is_given_back(stand: Stand) -> None:
    await stand.limit(rpm=60)
    held = await stand.reserved("a")
    await stand.limiter.next_call(held, 2, MINUTE)
    await stand.settle(held, calls=1)
    await stand.waits("b")
    stand.turn(1)
    assert await stand.granted() == ["b"]


async def test_a_request_larger_than_the_burst_goes_when_the_bucket_is_full_and_into_debt(stand: Stand) -> None:
    await stand.limit(tpm=60_000)
    await stand.reserved("a", tokens=3000)
    await stand.waits("b", tokens=100)
    stand.turn(2.5)
    assert await stand.granted() == []
    stand.turn(0.2)
    assert await stand.granted() == ["b"]


async def test_estimates_learn_from_what_events_use(stand: Stand) -> None:
    await stand.limit(tpm=60_000)
    for number in range(3):
        await stand.settle(await stand.reserved(str(number)), tokens=200)
        stand.turn(10)
    assert (await stand.status()).tokens_per_call == 200
    await stand.reserved("a")
    await stand.reserved("b")
    await stand.waits("c")  # three of them do not fit into half a second


async def test_a_further_call_of_a_turn_is_charged_at_once_and_told_to_wait_for_its_debt(stand: Stand) -> None:
    await stand.limit(rpm=60)
    held = await stand.reserved("a")
    assert await stand.limiter.next_call(held, 2, MINUTE) == timedelta(seconds=1)
    await stand.waits("b")
    stand.turn(1)
    assert await stand.granted() == []  # the turn that runs goes first
    stand.turn(1)
    assert await stand.granted() == ["b"]


async def test_a_further_call_that_is_asked_for_again_is_charged_once_and_told_what_is_left_of_its_wait(
    stand: Stand,
) -> None:
    await stand.limit(rpm=60)
    held = await stand.reserved("a")
    await stand.limiter.next_call(held, 2, MINUTE)
    stand.turn(0.4)
    assert await stand.limiter.next_call(held, 2, MINUTE) == timedelta(seconds=0.6)
    assert await stand.limiter.next_call(held, 3, MINUTE) == timedelta(seconds=1.6)


async def test_a_further_call_that_would_wait_for_too_long_is_not_charged(stand: Stand) -> None:
    await stand.limit(rpm=1)
    held = await stand.reserved("a")
    assert await stand.limiter.next_call(held, 2, timedelta(seconds=20)) == MINUTE
    assert await stand.settle(held) == []
    await stand.waits("b")
    stand.turn(60)
    assert await stand.granted() == ["b"]


async def test_a_turn_that_our_own_limits_stop_goes_to_the_front_and_blames_nobody(stand: Stand) -> None:
    await stand.limit(models={MODEL: {"rpm": 6}}, tenants={"*": {"rpm": 6}})
    held = await stand.reserved("a")
    await stand.waits("b")
    assert await stand.settle(held, "deferred", measured=1) == []
    status = await stand.status()
    assert (status.ceiling, status.held_seconds, status.circuit, status.in_flight) == (1, 0, "closed", 0)
    assert (await stand.waits("a")).place == 1
    stand.turn(10)
    assert await stand.granted() == ["a"]
    assert await stand.settle(await stand.reserved("a")) == []
    stand.turn(10)
    assert await stand.granted() == ["b"]


async def test_a_turn_that_another_queue_goes_on_with_keeps_its_place_and_pays_its_user_once(stand: Stand) -> None:
    await stand.limit(models={MODEL: {"rpm": 6}}, users={"*": {"rpm": 60}})
    held = await stand.reserved("a")
    await stand.waits("b")
    assert await stand.settle(held, "handed_over", measured=1) == []
    assert (await stand.waits("a")).place == 1
    stand.turn(10)
    assert await stand.granted() == ["a"]
    assert await stand.settle(await stand.reserved("a")) == []
    assert (await stand.waits("a")).place == 2  # its number was for that one time


async def test_a_refused_call_holds_everybody_and_goes_to_the_front(stand: Stand) -> None:
    held = await stand.reserved("a")
    other = await stand.reserved("b")
    assert await stand.settle(held, "rate_limited", retry_after=timedelta(seconds=7)) == []
    assert (await stand.waits("c")).eta >= timedelta(seconds=7)
    await stand.settle(other)
    stand.turn(6.9)
    assert await stand.granted() == []
    stand.turn(0.2)
    assert (await stand.granted())[0] == "a"


async def test_the_ceiling_falls_with_refusals_once_a_second_and_rises_slowly(stand: Stand) -> None:
    await stand.limit(rpm=600)
    held = [await stand.reserved(str(number)) for number in range(3)]
    for one in held:
        await stand.settle(one, "rate_limited", retry_after=timedelta(milliseconds=1))
    assert (await stand.status()).ceiling == pytest.approx(0.7)
    stand.turn(10)
    assert (await stand.status()).ceiling == pytest.approx(0.8)
    stand.turn(100)
    assert (await stand.status()).ceiling == 1


async def test_a_model_without_limits_learns_a_bound_from_a_refusal(stand: Stand) -> None:
    held = [await stand.reserved(str(number)) for number in range(10)]
    await stand.settle(held[0], "rate_limited", retry_after=timedelta(seconds=1))
    for one in held[1:]:
        await stand.settle(one)
    for number in range(10, 30):
        await stand.ask(str(number))
    stand.turn(1.1)
    assert len(await stand.granted()) == 7  # of the ten that were in flight


async def test_what_the_provider_says_remains_lowers_the_bucket_and_never_fills_it(stand: Stand) -> None:
    await stand.limit(rpm=600, tpm=60_000)
    await stand.limiter.correct(MODEL, 2, None)
    await stand.reserved("a")
    await stand.reserved("b")
    await stand.waits("c")
    await stand.limiter.correct(MODEL, 1000, 1000)
    await stand.waits("d")


async def test_five_failures_in_a_row_open_the_circuit_and_one_probe_tries_it(stand: Stand) -> None:
    for number in range(4):
        await stand.settle(await stand.reserved(f"f{number}"), "failed")
    await stand.settle(await stand.reserved("fine"))
    for number in range(5):
        await stand.settle(await stand.reserved(f"g{number}"), "failed")
    assert (await stand.status()).circuit == "open"
    assert (await stand.waits("a")).reason == "circuit_open"
    await stand.waits("b")
    stand.turn(4.9)
    assert await stand.granted() == []
    stand.turn(0.2)
    assert await stand.granted() == ["a"]
    assert (await stand.reserved("a")).probe
    assert await stand.granted() == []
    await stand.settle(await stand.reserved("a"), "failed")
    stand.turn(9)  # twice as long
    assert await stand.granted() == []
    stand.turn(1.1)
    assert await stand.granted() == ["b"]
    await stand.settle(await stand.reserved("b"))
    assert (await stand.status()).circuit == "closed"
    assert isinstance(await stand.ask("c"), Reserved)


async def test_a_probe_whose_worker_died_makes_room_for_another(stand: Stand) -> None:
    for number in range(5):
        await stand.settle(await stand.reserved(f"f{number}"), "failed")
    await stand.waits("a")
    await stand.waits("b")
    stand.turn(5.1)
    assert await stand.granted() == ["a"]
    await stand.reserved("a")
    stand.turn(LEASE.total_seconds() - 1)
    assert await stand.granted() == []
    stand.turn(2)
    assert await stand.granted() == ["b"]


async def test_an_account_without_quota_opens_the_circuit_at_once(stand: Stand) -> None:
    await stand.settle(await stand.reserved("a"), "quota")
    assert (await stand.status()).circuit == "open"


async def test_while_the_circuit_is_open_the_fallback_answers(stand: Stand) -> None:
    for number in range(5):
        await stand.settle(await stand.reserved(f"f{number}"), "failed")
    await stand.waits("a")
    assert (await stand.reserved("a", fallback="small")).model == "small"
    assert (await stand.status()).waiting == 0
    for number in range(5):
        await stand.settle(await stand.reserved(f"s{number}", fallback="small"), "failed")
    assert (await stand.waits("b", fallback="small")).model == MODEL


async def test_who_stands_in_line_when_the_circuit_opens_goes_to_the_fallback(stand: Stand) -> None:
    await stand.limit(models={MODEL: {"rpm": 600}})
    held = [await stand.reserved(f"f{number}") for number in range(5)]
    for name in "ab":
        await stand.waits(name, fallback="small")
    await stand.waits("c")
    for one in held:
        await stand.settle(one, "failed")
    assert await stand.granted() == ["a", "b"]
    assert (await stand.reserved("a", fallback="small")).model == "small"
    assert (await stand.waits("c")).reason == "circuit_open"


async def test_a_grant_that_is_taken_up_after_the_circuit_has_opened_is_no_good(stand: Stand) -> None:
    await stand.limit(models={MODEL: {"concurrency": 5}})
    held = [await stand.reserved(f"f{number}") for number in range(5)]
    await stand.waits("a", fallback="small")
    await stand.waits("b")
    assert [await stand.settle(one, "failed") for one in held] == [["a"], ["b"], [], [], []]
    assert (await stand.reserved("a", fallback="small")).model == "small"
    assert (await stand.waits("b")).reason == "circuit_open"
    assert (await stand.status()).in_flight == 0


async def test_who_has_moved_to_the_fallback_keeps_its_place_when_it_comes_back(stand: Stand) -> None:
    await stand.limit(models={MODEL: {"rpm": 600}, "small": {"rpm": 1}})
    held = [await stand.reserved(f"f{number}") for number in range(5)]
    await stand.waits("a", fallback="small")
    await stand.waits("b")
    await stand.limiter.reserve(stand.ask_of("s", model="small"), "t1", LEASE)
    for one in held:
        await stand.settle(one, "failed")
    assert (await stand.status("small")).waiting == 1
    stand.turn(5)
    assert await stand.granted() == ["b"]
    await stand.settle(await stand.reserved("b"))
    await stand.limit(models={MODEL: {"rpm": 6}, "small": {"rpm": 1}})
    await stand.waits("c")
    assert (await stand.waits("a", fallback="small")).model == MODEL
    stand.turn(10)
    assert await stand.granted() == ["a"]


async def test_who_asks_is_told_of_its_own_event_alone(stand: Stand) -> None:
    """What others were granted in passing would wake nobody, and be lost for five seconds."""
    await stand.limit(models={MODEL: {"concurrency": 5}, "small": {"rpm": 60}})
    held = [await stand.reserved(f"f{number}") for number in range(5)]
    for name in "xy":
        await stand.limiter.reserve(stand.ask_of(name, model="small"), "t1", LEASE)
    await stand.waits("a", fallback="small")
    assert [await stand.settle(one, "failed") for one in held] == [["a"], [], [], [], []]
    stand.turn(1)
    assert (await stand.waits("a", fallback="small")).model == "small"  # its grant is no good: the circuit has opened
    assert await stand.granted() == ["y"]
    stand.turn(1)
    assert await stand.granted() == ["a"]


async def test_a_limit_that_is_raised_counts_at_once_also_for_what_was_spent(stand: Stand) -> None:
    await stand.limit(rpm=1)
    await stand.reserved("a")
    await stand.waits("b")
    await stand.limit(rpm=60)
    assert (await stand.waits("b")).eta <= timedelta(seconds=1)
    stand.turn(1)
    assert await stand.granted() == ["b"]


async def test_the_successor_of_a_dead_worker_takes_its_reservation_over_and_pays_for_its_own_call(
    stand: Stand,
) -> None:
    await stand.limit(rpm=60, concurrency=1)
    await stand.reserved("a")
    await stand.waits("b")
    successor = await stand.reserved("a", token="t2")
    assert (await stand.status()).in_flight == 1
    stand.turn(1.5)
    assert await stand.settle(successor) == []  # two calls were made
    stand.turn(0.6)
    assert await stand.granted() == ["b"]


async def test_what_a_dead_worker_has_used_of_its_tenants_share_stays_used(stand: Stand) -> None:
    await stand.limit(tenants={"*": {"rpm": 6}})
    await stand.reserved("a")
    successor = await stand.reserved("a", token="t2")
    await stand.settle(successor, "neutral", calls=0)
    await stand.waits("b")


async def test_a_tenant_and_a_user_at_their_limit_hold_nobody_else_up(stand: Stand) -> None:
    await stand.limit(tenants={"slow": {"rpm": 6}}, users={"busy": {"rpm": 6}}, models={MODEL: {"concurrency": 3}})
    held = [await stand.reserved("s0", tenant="slow"), await stand.reserved("u0", userid="busy")]
    blocker = await stand.reserved("x0")
    for number in range(1, 3):
        await stand.waits(f"s{number}", tenant="slow")
        await stand.waits(f"u{number}", userid="busy")
    await stand.waits("x1")
    assert [await stand.settle(one) for one in held] == [["x1"], []]
    await stand.settle(await stand.reserved("x1"))
    await stand.settle(blocker)
    assert await stand.granted() == []
    stand.turn(10)
    assert sorted(await stand.granted()) == ["s1", "u1"]


async def test_a_newcomer_does_not_rob_those_of_its_tenant_who_rest(stand: Stand) -> None:
    await stand.limit(tenants={"*": {"rpm": 6}})
    await stand.reserved("a", tenant="t")
    await stand.waits("b", tenant="t")
    stand.turn(10)
    await stand.waits("c", tenant="t")
    await stand.reserved("other", tenant="u")
    await stand.waits("d", tenant="t", priority="background")
    assert await stand.granted() == ["b"]


async def test_a_newcomer_does_not_rob_those_of_its_user_who_stand_aside(stand: Stand) -> None:
    await stand.limit(users={"*": {"rpm": 6}})
    await stand.reserved("a")
    await stand.waits("b")
    stand.turn(10)
    await stand.waits("d", priority="background")
    await stand.waits("c")
    assert await stand.granted() == ["b"]


async def test_what_waits_for_its_user_goes_in_the_order_in_which_it_came(stand: Stand) -> None:
    """However many come back in one look, and whatever else is in line."""
    await stand.limit(models={MODEL: {"rpm": 600}}, users={"*": {"rpm": 60}})
    users = [f"u{number}" for number in range(40)]
    for number in range(3):
        for user in users:
            await stand.ask(f"{user}-{number}", userid=user)
    served: list[str] = []
    for _ in range(200):
        stand.turn(0.1)
        for name in await stand.granted(5):
            await stand.settle(await stand.reserved(name, userid=name.split("-")[0]))
            served.append(name)
    for user in users:
        numbers = [name for name in served if name.startswith(f"{user}-")]
        assert numbers == sorted(numbers)
    assert len({name.split("-")[0] for name in served}) == len(users)


async def test_a_user_at_its_limit_gets_all_that_it_may_have(stand: Stand) -> None:
    await stand.limit(users={"*": {"rpm": 600}})
    for number in range(60):
        await stand.ask(f"w{number}")
    served = 0
    for _ in range(20):
        stand.turn(0.23)  # looks come late, as they do with many workers
        for name in await stand.granted():
            await stand.settle(await stand.reserved(name))
            served += 1
    assert served == 46


async def test_an_interactive_event_does_not_wait_behind_the_background_ones_of_its_user(stand: Stand) -> None:
    await stand.limit(users={"*": {"rpm": 6}})
    await stand.reserved("a")
    for number in range(3):
        await stand.waits(f"b{number}", priority="background")
    await stand.waits("i")
    stand.turn(10)
    assert await stand.granted() == ["i"]


@pytest.mark.parametrize("who", ["tenants", "users"])
async def test_a_limit_of_their_own_that_is_raised_counts_at_once_for_those_who_rest(stand: Stand, who: str) -> None:
    await stand.limit(**{who: {"*": {"rpm": 0.1}}})
    await stand.reserved("a")
    await stand.waits("b")
    await stand.limit(**{who: {"*": {"rpm": 60}}})
    assert await stand.granted() == []
    stand.turn(1)
    assert await stand.granted() == ["b"]


@pytest.mark.parametrize("who", ["tenants", "users"])
async def test_a_share_that_is_given_back_goes_to_those_who_wait_for_it(stand: Stand, who: str) -> None:
    await stand.limit(**{who: {"*": {"rpm": 6}}})
    held = await stand.reserved("a")
    await stand.waits("b")
    await stand.settle(held, "neutral", calls=0)
    assert await stand.granted() == ["b"]


async def test_those_who_rest_or_stand_aside_are_in_line_and_leave_it_without_a_trace(stand: Stand) -> None:
    one = {"rpm": 6}
    await stand.limit(tenants={"t": one}, users={"busy": one}, models={MODEL: {"concurrency": 2}})
    held = [await stand.reserved("t0", tenant="t"), await stand.reserved("u0", userid="busy")]
    for number in (1, 2):
        await stand.waits(f"t{number}", tenant="t")
        await stand.waits(f"u{number}", userid="busy")
        await stand.waits(f"x{number}")
    assert (await stand.status()).waiting == 6
    for one_held in held:
        await stand.settle(one_held)  # x1 and x2 are granted: the tenant has rested while others stood in line
    assert (await stand.status()).waiting == 4
    await stand.limiter.leave(list(stand.names))
    assert (await stand.status()).waiting == 0
    stand.turn(20)
    assert await stand.granted() == []
    left = {key for key in await stand.keys() if not key.startswith(("tenant:", "user:"))}  # these expire by themselves
    assert left == set()


async def test_who_is_stopped_by_its_tenant_and_by_its_size_alike_keeps_nobody_waiting(stand: Stand) -> None:
    await stand.limit(models={MODEL: {"tpm": 60_000}}, tenants={"a": {"rpm": 6}})
    await stand.reserved("first", tokens=500)
    for name, tokens in (("a1", 10), ("a2", 400), ("b1", 10), ("b2", 10)):
        await stand.waits(name, tenant=name[0], tokens=tokens)
    stand.turn(0.1)
    assert await stand.granted() == ["a1", "b1", "b2"]


async def test_what_leaves_the_line_is_not_granted_and_gives_its_grant_back(stand: Stand) -> None:
    await stand.limit(rpm=60)
    await stand.reserved("a")
    for name in "bcd":
        await stand.waits(name)
    ids = {name: id_ for id_, name in stand.names.items()}
    await stand.limiter.leave([ids["c"], "evt_unknown"])
    assert (await stand.waits("d")).place == 2
    stand.turn(1)
    assert await stand.granted() == ["b"]
    await stand.limiter.leave([ids["b"]])
    assert await stand.granted() == ["d"]


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("who", ["tenants", "users"])
async def test_who_waits_for_a_limit_of_its_own_is_told_how_long_that_takes(stand: Stand, who: str, busy: bool) -> None:
    models = {MODEL: {"rpm": 60}} if busy else {}
    await stand.limit(models=models, **{who: {"t": {"rpm": 6}}})
    if busy:
        await stand.reserved("other")
    places = [await stand.ask(f"w{number}", tenant="t", userid="t") for number in range(101)]
    last = places[-1]
    assert isinstance(last, InLine)
    assert last.eta.total_seconds() == pytest.approx(1000, rel=0.02)
    middle = places[50]
    assert isinstance(middle, InLine)
    assert middle.eta.total_seconds() == pytest.approx(500, rel=0.05)
    if busy:
        assert (await stand.waits("x", tenant="x", userid="x")).eta < timedelta(seconds=10)


async def test_turns_that_call_the_model_again_and_again_make_the_others_wait_for_longer(stand: Stand) -> None:
    await stand.limit(rpm=60)
    held = await stand.reserved("a")
    for number in (2, 3):
        stand.turn((await stand.limiter.next_call(held, number, MINUTE)).total_seconds())
    await stand.settle(held, calls=3, tokens=30)
    stand.turn(10)
    await stand.reserved("b")
    etas = [(await stand.waits(f"w{number}")).eta.total_seconds() for number in range(3)]
    assert etas == [1, 4, 7]


async def test_places_are_told_to_whoever_asks(stand: Stand) -> None:
    await stand.limit(rpm=60)
    await stand.reserved("a")
    waits = await stand.waits("b")
    ids = {name: id_ for id_, name in stand.names.items()}
    assert await stand.limiter.places([ids["b"], ids["a"]]) == [waits, None]


async def test_limits_that_were_set_at_run_time_outlive_a_restart_until_the_settings_change(stand: Stand) -> None:
    installed, changed = (
        Limits.model_validate({"users": {"*": {"rpm": 1}}}),
        Limits.model_validate({"users": {"*": {"rpm": 3}}}),
    )
    assert await stand.limiter.install(installed)
    at_run_time = Limits.model_validate({"users": {"*": {"rpm": 2}}})
    await stand.limiter.set_limits(at_run_time)
    assert not await stand.limiter.install(installed)
    assert await stand.limiter.limits() == at_run_time
    assert await stand.limiter.install(changed)
    assert await stand.limiter.limits() == changed


async def test_after_quiet_nothing_is_left(stand: Stand) -> None:
    await stand.limit(rpm=600, tpm=600_000, concurrency=2, tenants={"*": {"rpm": 6000}}, users={"*": {"rpm": 6000}})
    held = [await stand.ask(f"{tenant}{number}", tenant=tenant) for tenant in "ab" for number in range(4)]
    granted = [name for one in held if isinstance(one, Reserved) for name in await stand.settle(one)]
    for _ in range(10):
        stand.turn(1)
        granted += await stand.granted()
        while granted:
            granted += await stand.settle(await stand.reserved(granted.pop()))
    stand.turn(60)
    await stand.granted()
    left = {key for key in await stand.keys() if not key.startswith(("tenant:", "user:"))}  # these expire by themselves
    assert left == set()
    assert (await stand.status()).in_flight == 0
