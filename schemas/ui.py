"""The 13 DOM events of a ChatKit element that a page forwards, as `chatkit.ui.<name>`."""

from functools import cache
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model


class UiEventData(BaseModel):
    """What every UI event may say: which browser session and which thread the page showed."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    session_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    thread_id: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(default=None, alias="threadId")


class UiError(BaseModel):
    """The error of an `error` event, as far as a page can serialise it."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    name: str = Field(default="Error", max_length=200)
    message: str = Field(default="", max_length=4000)


class UiErrorData(UiEventData):
    """`error`: something went wrong in the page."""

    error: UiError


class UiNamedData(UiEventData):
    """`effect`, `deeplink` and `log`: a name and data."""

    name: str = Field(min_length=1, max_length=200)
    data: dict[str, Any] = Field(default_factory=dict)


class UiThreadChangeData(UiEventData):
    """`thread.change`: the page shows another thread, or none."""


class UiThreadLoadData(UiEventData):
    """`thread.load.start` and `thread.load.end`."""

    thread_id: str = Field(alias="threadId", min_length=1, max_length=128)


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


@cache
def ui_documents() -> TypeAdapter[Any]:
    """One named model per UI event, for the generated schema documents."""
    models = tuple(
        create_model(
            "Ui" + "".join(word.title() for word in name.split(".")),
            __base__=data,
            event=(cast("Any", Literal[name]), name),
        )
        for name, data in UI_EVENTS.items()
    )
    union: Any = models[0]
    for model in models[1:]:
        union = union | model
    return TypeAdapter(union)
