"""Session events of the queue, and the bodies of `/v1/sessions`."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from schemas.names import NAME_PATTERN, Name

__all__ = [
    "NAME_PATTERN",
    "SESSION_EVENTS",
    "Name",
    "Session",
    "SessionEventData",
    "SessionRequest",
]


class SessionRequest(BaseModel):
    """Body of `POST /v1/sessions`: whom the client secret is for."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    user: Name
    tenant: Name = "default"


class Session(BaseModel):
    """Answer of `POST /v1/sessions`. `refresh_token` is null until refreshing is switched on."""

    model_config = ConfigDict(frozen=True)

    client_secret: str
    expires_at: datetime
    session_id: str
    refresh_token: str | None = None


class SessionEventData(BaseModel):
    """`chatkit.session.start|refresh|end` from the queue: the session it is about (start makes one when unset)."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    session_id: Name | None = None


SESSION_EVENTS = ("start", "refresh", "end")
