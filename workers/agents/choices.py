"""The tool that a user has picked in the composer: the agent that has it answers, and begins with it."""

import dataclasses
from collections.abc import Sequence

from schemas.chatkit import ThreadItem, UserMessageItem
from workers.agents.team import ChatAgent, Team


def chosen_tool(items: Sequence[ThreadItem]) -> str | None:
    """The tool that the message to be answered asks for. (It was on the deployment's list when the message came in.)"""
    last = items[-1] if items else None
    choice = last.inference_options.tool_choice if isinstance(last, UserMessageItem) else None
    return choice.id if choice is not None else None


def with_tool(team: Team, agent: ChatAgent, tool: str | None) -> ChatAgent:
    """The agent that has the tool, `agent` first, made to begin with it; `agent` when no agent of the team has it."""
    for candidate in (agent, *team.agents):
        if tool is not None and any(own.name == tool for own in candidate.tools):
            settings = dataclasses.replace(candidate.model_settings, tool_choice=tool)
            return candidate.clone(model_settings=settings)
    return agent
