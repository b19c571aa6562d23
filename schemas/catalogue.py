"""Every event type that is taken, and the model of its data."""

import difflib
from functools import cache

from pydantic import BaseModel

from schemas.actions import ActionSend
from schemas.chatkit import request_models
from schemas.sessions import SESSION_EVENTS
from schemas.ui import UI_EVENTS

PREFIX = "chatkit."
UI_PREFIX = "chatkit.ui."
SESSION_PREFIX = "chatkit.session."
ACTION_SEND = "chatkit.action.send"


@cache
def data_models() -> dict[str, type[BaseModel]]:
    """Event type -> model of `data`."""
    return {
        **{PREFIX + name: model for name, model in request_models().items()},
        **{UI_PREFIX + name: model for name, model in UI_EVENTS.items()},
        **{SESSION_PREFIX + name: model for name, model in SESSION_EVENTS.items()},
        ACTION_SEND: ActionSend,
    }


@cache
def event_types() -> tuple[str, ...]:
    """Every event type that is taken, sorted."""
    return tuple(sorted(data_models()))


def is_request(type_: str) -> bool:
    """Whether `data` is a request as the ChatKit client sends it."""
    return type_.removeprefix(PREFIX) in request_models() and type_.startswith(PREFIX)


def may_lack_data(type_: str) -> bool:
    """Whether the type alone says enough: many DOM events have no detail."""
    return type_.startswith((UI_PREFIX, SESSION_PREFIX))


def nearest_types(type_: str) -> list[str]:
    """Known types that an unknown one may have meant, best first; at most three."""
    if (prefixed := PREFIX + type_) in data_models():
        return [prefixed]
    return difflib.get_close_matches(type_[:128].lower(), event_types(), n=3, cutoff=0.75)
