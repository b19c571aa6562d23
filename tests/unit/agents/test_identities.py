"""The SDK is not asked twice for what does not change, and gets what it would have worked out."""

from agents import _run_state_agent_identity as identity

from workers.agents.identities import _work_out
from workers.agents.team import build_team
from workers.testing.model import DeltaModel


def test_the_sdk_finds_what_it_would_work_out_and_a_clone_is_looked_at_anew() -> None:
    agents = build_team(DeltaModel(1)).agents
    for agent in agents:
        assert identity._agent_identity_signature(agent) == _work_out(agent)
        agent.instructions = "changed, which nobody does"
        assert identity._agent_identity_signature(agent) != _work_out(agent), "not worked out again"
        assert identity._agent_identity_signature(agent.clone()) == _work_out(agent)
    assert len(identity._build_agent_identity_keys_by_id(agents[0])) == len(agents)
