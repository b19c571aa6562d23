"""The boundary where errors of the SDK, its client and its transport become ours, by what can be done about them.

Their texts may quote the prompt, so a message here is made of a status, the provider's code and its request id alone.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta

import httpx2
import openai
from agents import exceptions as sdk

from schemas.errors import WorkersError
from workers.agents.retry_after import retry_after_of, retry_after_of_text
from workers.errors import (
    AuthenticationError,
    CallError,
    OverloadError,
    PermanentError,
    QuotaError,
    RateLimitedError,
    TransientError,
)

CODES: Mapping[str, type[CallError]] = {
    "rate_limit_exceeded": RateLimitedError,
    "rate_limit_error": RateLimitedError,
    "slow_down": RateLimitedError,
    "insufficient_quota": QuotaError,
    "billing_hard_limit_reached": QuotaError,
    "billing_not_active": QuotaError,
    "account_deactivated": QuotaError,
    "access_terminated": QuotaError,
    "invalid_api_key": AuthenticationError,
    "authentication_error": AuthenticationError,
    "server_error": TransientError,
    "internal_error": TransientError,
    "internal_server_error": TransientError,
    "api_error": TransientError,
    "overloaded_error": TransientError,
    "server_overloaded": TransientError,
    "service_unavailable": TransientError,
    "timeout": TransientError,
    "vector_store_timeout": TransientError,
}
"""Codes of error bodies and of failed streams. A code that is not here is the request's own fault."""

QUOTA_CODES = frozenset(code for code, kind in CODES.items() if kind is QuotaError)

STREAM_CODE = re.compile(r"\bcode=['\"]?([A-Za-z0-9_.-]{1,64})")
"""The code in the text of a `ModelBehaviorError`: `code=x` of an `error` event, `code='x'` of `response.failed`."""

STREAM_FAILED = "Responses stream ended with terminal event"
INCOMPLETE = re.compile(r"incomplete_details=IncompleteDetails\(reason='([a-z_]{1,40})'")
SAFE_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def classify(error: Exception) -> WorkersError | None:
    """What a failure means for the queue (the table "Failure classes" of facts.md).

    Args:
        error: whatever a run raised, a tool's error that the SDK has wrapped included.

    Returns:
        One of ours, with `retry_after` where the provider gave one; None for what is no failure of a call: a bug.
    """
    for cause in _chain(error):
        if isinstance(cause, WorkersError):
            return cause
    for cause in _chain(error):
        if (known := _known(cause)) is not None:
            return known
    return None


def _known(error: BaseException) -> CallError | None:
    match error:
        case openai.APIStatusError():
            return _of_status(error)
        case openai.APIConnectionError() | httpx2.TransportError():
            return _of_transport(error)
        case openai.APIError():
            return _of_code(error.code or error.type, type(error).__name__, "in a stream")
        case json.JSONDecodeError():
            return TransientError("the provider's stream is not JSON", kind=type(error).__name__)
        case sdk.ModelBehaviorError():
            return _of_behaviour(str(error))
        case sdk.ModelTimeoutError() | sdk.ToolTimeoutError() | TimeoutError() | ConnectionError():
            return TransientError(f"{type(error).__name__}: no answer in time", kind=type(error).__name__)
        case sdk.AgentsException() if not isinstance(error, sdk.UserError):
            return PermanentError(_words(type(error).__name__), kind=type(error).__name__)
        case _:
            return None


def _of_status(error: openai.APIStatusError) -> CallError:
    status, code = error.status_code, _safe(error.code) or _safe(error.type)
    return _kind_of_status(status, {error.code, error.type})(
        " ".join(filter(None, [f"HTTP {status}", code, _request_id(error)])),
        kind=type(error).__name__,
        retry_after=retry_after_of(error.response.headers),
    )


def _kind_of_status(status: int, codes: set[str | None]) -> type[CallError]:
    if codes & QUOTA_CODES or status in (402, 403):
        return QuotaError
    if status == 429:
        return RateLimitedError
    if status == 401:
        return AuthenticationError
    if status in (408, 409) or status >= 500:
        return TransientError
    return PermanentError


def _of_transport(error: openai.APIConnectionError | httpx2.TransportError) -> CallError:
    if any(isinstance(cause, httpx2.PoolTimeout) for cause in _chain(error)):
        return OverloadError("no free connection in this process", kind="PoolTimeout")
    name = type(error.__cause__ or error).__name__
    return TransientError(_words(name), kind=type(error).__name__)


def _of_code(code: str | None, kind: str, where: str, retry_after: timedelta | None = None) -> CallError:
    code = _safe(code)
    error = CODES.get(code or "", PermanentError if code else TransientError)
    return error(f"{code or 'an error without a code'} {where}", kind=kind, retry_after=retry_after)


def _of_behaviour(text: str) -> CallError:
    """The SDK makes text of a failed stream; the code is read out of it again."""
    if not text.startswith(STREAM_FAILED):
        # no final response, an unknown tool, arguments that are no JSON: another sample of the model may do better
        return TransientError("the model gave no usable response", kind="ModelBehaviorError")
    if incomplete := INCOMPLETE.search(text):
        return PermanentError(f"the response is incomplete: {incomplete.group(1)}", kind="ModelBehaviorError")
    found = STREAM_CODE.search(text)
    return _of_code(found and found.group(1), "ModelBehaviorError", "in a stream", retry_after_of_text(text))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what explicitly caused it. An implicit context is mere history and says nothing."""
    current: BaseException | None = error
    for _ in range(10):
        if current is None:
            return
        yield current
        current = current.__cause__


def _request_id(error: openai.APIStatusError) -> str | None:
    request_id = _safe(error.request_id)
    return f"({request_id})" if request_id else None


def _safe(code: str | None) -> str | None:
    return code if code and SAFE_CODE.fullmatch(code) else None


def _words(name: str) -> str:
    """`ReadTimeout` as `read timeout`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
