"""What a foreign error means for the queue."""

import json
import pickle
from datetime import UTC, datetime, timedelta

import httpx2
import openai
import pytest
from agents import MaxTurnsExceeded, ModelBehaviorError, UserError
from agents.exceptions import ToolTimeoutError

from schemas.outcome import ErrorRecord
from workers.agents.classify import classify
from workers.agents.retry_after import retry_after_of, retry_after_of_text
from workers.errors import (
    CallError,
    LeaseLostError,
    OverloadError,
    PermanentError,
    QuotaError,
    RateLimitedError,
    TransientError,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REQUEST = httpx2.Request("POST", "http://provider/v1/responses")


def rate_limited(body: object = None, **headers: str) -> openai.RateLimitError:
    response = httpx2.Response(429, request=REQUEST, headers={k.replace("_", "-"): v for k, v in headers.items()})
    return openai.RateLimitError("SECRET PROMPT", response=response, body=body)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def test_a_429_is_a_rate_limit_with_the_wait_it_asks_for() -> None:
    error = classify(rate_limited(retry_after="3"))
    assert type(error) is RateLimitedError
    assert error.retry_after == timedelta(seconds=3)


def test_a_429_of_an_empty_account_is_for_the_operator() -> None:
    assert type(classify(rate_limited({"code": "insufficient_quota"}))) is QuotaError
    assert type(classify(rate_limited({"type": "insufficient_quota"}))) is QuotaError


def test_a_time_out_of_our_own_pool_is_overload_and_one_of_the_provider_is_not() -> None:
    time_out = openai.APITimeoutError(request=REQUEST)
    assert type(classify(caused(time_out, httpx2.PoolTimeout("full")))) is OverloadError
    assert type(classify(openai.APITimeoutError(request=REQUEST))) is TransientError


def test_our_own_error_is_found_behind_what_the_sdk_wrapped_around_it() -> None:
    ours = LeaseLostError("another worker")
    assert classify(caused(UserError("Error running tool x: another worker"), ours)) is ours
    assert classify(ours) is ours


def test_a_provider_error_inside_a_tool_keeps_its_class() -> None:
    assert type(classify(caused(UserError("Error running tool x"), rate_limited()))) is RateLimitedError


def test_a_tool_that_takes_too_long_is_transient() -> None:
    assert type(classify(ToolTimeoutError("slow", 1.0))) is TransientError
    assert type(classify(TimeoutError())) is TransientError


def test_a_loop_of_the_model_is_permanent() -> None:
    assert type(classify(MaxTurnsExceeded("Max turns (12) exceeded"))) is PermanentError


def test_bugs_are_not_classified() -> None:
    assert classify(KeyError("SECRET PROMPT")) is None
    assert classify(UserError("the agent has no model")) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`response.failed`. status=failed; error=ResponseError(code='server_error', message='x').", TransientError),
        ("`response.failed`. error=ResponseError(code='rate_limit_exceeded', message='x').", RateLimitedError),
        ("`response.failed`. error=ResponseError(code='image_too_large', message='x').", PermanentError),
        ("`response.failed`. status=failed.", TransientError),
        ("`error`. code=insufficient_quota; message=x.", QuotaError),
        ("`error`. message=something without a code.", TransientError),
        ("`response.incomplete`. incomplete_details=IncompleteDetails(reason='content_filter').", PermanentError),
    ],
)
def test_the_code_of_a_failed_stream_is_read_out_of_its_text(text: str, expected: type[CallError]) -> None:
    error = classify(ModelBehaviorError(f"Responses stream ended with terminal event {text}"))
    assert type(error) is expected


def test_a_code_that_a_user_wrote_into_the_message_does_not_count() -> None:
    forged = "`error`. code=server_error; message=the user said code=insufficient_quota."
    error = classify(ModelBehaviorError(f"Responses stream ended with terminal event {forged}"))
    assert type(error) is TransientError


def test_another_sample_may_do_better_than_a_model_that_misbehaved() -> None:
    assert type(classify(ModelBehaviorError("Tool nonsense not found in agent"))) is TransientError
    assert type(classify(ModelBehaviorError("Model did not produce a final response!"))) is TransientError


def test_a_record_is_json_and_holds_nothing_of_the_prompt() -> None:
    error = classify(rate_limited({"code": "weird code: SECRET PROMPT"}))
    assert isinstance(error, CallError)
    record = error.record()
    assert ErrorRecord.model_validate(json.loads(record.model_dump_json())) == record
    assert record == ErrorRecord(kind="RateLimitError", message="HTTP 429")


def test_records_survive_pickling_where_the_provider_errors_do_not() -> None:
    foreign = rate_limited()
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(foreign))
    error = classify(foreign)
    assert isinstance(error, CallError)
    assert pickle.loads(pickle.dumps(error.record())) == error.record()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "Fri, 02 Jan 2026 03:04:35 GMT"}, 30),
        ({"retry-after": "Fri, 02 Jan 2026 03:04:00 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"x-ratelimit-reset-requests": "120ms"}, 0.12),
        ({"x-ratelimit-reset-tokens": "6m0s"}, 360),
        ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "10"}, None),
        ({"retry-after": "400", "x-ratelimit-reset-tokens": "6m0s"}, 400),
        ({"x-ratelimit-reset": "20"}, 20),
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) + 45)}, 45),
    ],
)
def test_the_longest_wait_that_the_headers_ask_for_counts(headers: dict[str, str], seconds: float | None) -> None:
    wait = retry_after_of(headers, NOW)
    assert (wait.total_seconds() if wait else None) == seconds


def test_the_wait_of_a_stream_is_read_out_of_its_text() -> None:
    assert retry_after_of_text("Please try again in 1m6.5s.") == timedelta(seconds=66.5)
    assert retry_after_of_text("Please try again later.") is None
