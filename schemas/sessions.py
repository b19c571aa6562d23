"""Session events of the queue, and the bodies of `/v1/sessions`."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from schemas.names import NAME_PATTERN, Name

__all__ = [
    "ISSUED_EFFECT",
    "NAME_PATTERN",
    "SESSION_EVENTS",
    "Name",
    "RefreshRequest",
    "SecretEffectData",
    "Session",
    "SessionEventData",
    "SessionRefreshData",
    "SessionRequest",
]


class SessionRequest(BaseModel):
    """Body of `POST /v1/sessions`: whom the client secret is for.

    `cookie`: the answer sets the refresh token as a cookie instead of giving it. Only for a service that hands the
    answer's headers on to the browser, on the host where the browser will refresh.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    user: Name
    tenant: Name = "default"
    cookie: bool = False


class RefreshRequest(BaseModel):
    """Body of `POST /v1/sessions/refresh`. Without a token the cookie's is taken; `cookie` asks for the successor in
    one."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    refresh_token: str | None = Field(default=None, max_length=256)
    cookie: bool = False


class Session(BaseModel):
    """A client secret, and what refreshes it: null where a cookie holds it, or where a service is to vouch again."""

    model_config = ConfigDict(frozen=True)

    client_secret: str
    expires_at: datetime
    session_id: str
    refresh_token: str | None = None


ISSUED_EFFECT = "client_secret"
"""Name of the client effect by which an agent hands a client secret to its user's page."""


class SecretEffectData(BaseModel):
    """Data of the client effect `client_secret`.

    The stream holds it without the secrets. The gateway puts them in where it shows the frame to the event's user, for
    a minute after they were made; afterwards, and for services, the frame is shown without them.
    """

    model_config = ConfigDict(frozen=True)

    session_id: str
    expires_at: datetime
    handle: str
    client_secret: str | None = None
    refresh_token: str | None = None


class SessionEventData(BaseModel):
    """`chatkit.session.start|end` from the queue, and the session that it is about.

    Without one, `start` makes one, and `end` ends all of the user's. The answer to `start` and `refresh` is a client
    effect named `session`, whose data is a `Session`; its stream is gone a minute after the event has ended.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    session_id: Name | None = None


class SessionRefreshData(SessionEventData):
    """`chatkit.session.refresh`: a session of the user, for which the service that sends this vouches once more."""

    session_id: Name


SESSION_EVENTS: dict[str, type[SessionEventData]] = {
    "start": SessionEventData,
    "refresh": SessionRefreshData,
    "end": SessionEventData,
}
