"""`chatkit.action.send`: push an effect or a message into a thread from outside."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from schemas.names import Name

APPROVAL_DECIDE = "approval.decide"
"""The action of the buttons that approve or reject what an agent is about to do: ours, and no agent may send it."""

APPROVAL_PREFIX = "apr_"
"""Begins the ids of approvals, and so of the cards that ask for them: no agent may change one."""


class ActionSend(BaseModel):
    """Data of `chatkit.action.send`: an effect for the thread's open clients, or a message into the thread."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    class Effect(BaseModel):
        """A client effect: its name and data."""

        model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

        name: str = Field(min_length=1, max_length=200)
        data: dict[str, Any] = Field(default_factory=dict)

    thread_id: Name
    effect: Effect | None = None
    message: Annotated[str, StringConstraints(min_length=1, max_length=32_768)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "ActionSend":
        if (self.effect is None) == (self.message is None):
            raise PydanticCustomError("one_of", "give either effect or message")
        return self
