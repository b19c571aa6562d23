"""Reading back what earlier attempts have shown."""

import fakeredis
import pytest

from tests.builders import create_event, delivery_of
from tests.lane_builders import Deployment, deployment_on
from tests.unit.streams.running import begun
from workers.errors import StateAwayError
from workers.policies.rate_limit import verdict_of
from workers.streams import replay
from workers.streams.replay import TurnStreams
from workers.streams.writer import FrameWriter


async def test_what_was_shown_is_read_in_pieces(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PAGE", 2)
    event = create_event()
    await deployment.accepted(event)
    turn = await begun(deployment.state, deployment.keys, event)
    await turn.show(b"1", b"2", b"3", b"4")
    streams = TurnStreams(FrameWriter(deployment.lanes), deployment.state, deployment.keys)
    assert await streams.shown(delivery_of(event)) == [b"1", b"2", b"3", b"4"]


async def test_a_state_that_is_away_is_a_failure_that_may_pass_and_not_the_providers() -> None:
    """Not a bug, which would be a dead letter."""
    server = fakeredis.FakeServer()
    away = deployment_on(fakeredis.FakeAsyncRedis(server=server), "ck")
    server.connected = False
    streams = TurnStreams(FrameWriter(away.lanes), away.state, away.keys)
    for read in (streams.shown, streams.journal):
        with pytest.raises(StateAwayError) as raised:
            await read(delivery_of(create_event()))
        assert verdict_of(raised.value) == "neutral"
