"""The 13 DOM events of a ChatKit element that a page forwards, as `chatkit.ui.<name>`."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from schemas.names import Name


class UiEventData(BaseModel):
    """What every UI event may say: which browser session and which thread the page showed."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)

    session_id: Name | None = None
    thread_id: Name | None = Field(default=None, alias="threadId")


class UiError(BaseModel):
    """The error of an `error` event, as far as a page can serialise it."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    name: str = Field(default="Error", max_length=200)
    message: str = Field(default="", max_length=4000)


class UiErrorData(UiEventData):
    """`error`: something went wrong in the page."""

    error: UiError


class UiNamedData(UiEventData):
    """`effect`, `deeplink` and `log`: a name and data.

    Of an effect that an agent waits for, `data` is `{"action_id", "outcome"}`: the id that came in the effect's data,
    and any JSON value of at most 4096 bytes, for the agent to read.
    """

    name: str = Field(min_length=1, max_length=200)
    data: dict[str, Any] | None = None


class UiThreadChangeData(UiEventData):
    """`thread.change`: the page shows another thread, or none."""


class UiThreadLoadData(UiEventData):
    """`thread.load.start` and `thread.load.end`."""

    thread_id: Name = Field(alias="threadId")


class UiToolChangeData(UiEventData):
    """`tool.change`: the user picked a tool in the composer, or none."""

    tool_id: str | None = Field(default=None, alias="toolId", max_length=128)


UI_EVENTS: dict[str, type[UiEventData]] = {
    "ready": UiEventData,
    "error": UiErrorData,
    "effect": UiNamedData,
    "deeplink": UiNamedData,
    "log": UiNamedData,
    "response.start": UiEventData,
    "response.end": UiEventData,
    "history.open": UiEventData,
    "history.close": UiEventData,
    "thread.change": UiThreadChangeData,
    "thread.load.start": UiThreadLoadData,
    "thread.load.end": UiThreadLoadData,
    "tool.change": UiToolChangeData,
}
