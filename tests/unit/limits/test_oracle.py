"""A single rate against another implementation of GCRA: throttled-py's, in memory, on the same clock."""

import asyncio

import fakeredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from throttled import MemoryStore, Throttled, rate_limiter, utils

from tests.limit_builders import stand_on
from workers.policies.rate_limit import Reserved

RPM, BURST = 840, 7  # half a second's worth
STEPS_US = st.sampled_from([0, 7_919, 33_331, 61_007, 130_003, 510_007, 1_999_993])
"""No sum of these falls on the very moment at which a unit comes back: there floating point would decide."""


@given(steps=st.lists(STEPS_US, max_size=60))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_rate_lets_through_what_another_gcra_does(steps: list[int]) -> None:
    async def both() -> list[tuple[bool, bool]]:
        state = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
        stand = stand_on(state, "oracle")
        await stand.limit(rpm=RPM)
        quota = rate_limiter.per_min(RPM, burst=BURST)
        oracle = Throttled(key="one", using="gcra", quota=quota, store=MemoryStore())
        answers = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(utils, "now_mono_f", lambda: stand.clock.us / 1e6 - 1_800_000_000)
            for number, step in enumerate(steps):
                stand.clock.us += step
                ours = await stand.ask(str(number))
                await stand.limiter.leave(list(stand.names)[-1:])  # nobody stands in line: this is about the rate
                answers.append((isinstance(ours, Reserved), not oracle.limit().limited))
        await state.aclose()
        return answers

    answers = asyncio.run(both())
    assert [ours for ours, _ in answers] == [theirs for _, theirs in answers]
