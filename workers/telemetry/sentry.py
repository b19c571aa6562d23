"""Sentry: failures with their place and ids, without a word of any conversation. Off without a DSN."""

import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

HIDDEN = "[hidden]"
OUR_ERRORS = ("workers.errors", "schemas.errors")
"""Modules whose errors have texts of our own making; any other text may quote a prompt."""

CHECK_IN_MARGIN_MINUTES = 3

COLLECT: Any = {
    # Everything is listed: an empty dict collects all of it.
    "queues": False,
    "gen_ai": {"inputs": False, "outputs": False},
    "stack_frame_variables": False,
    "database_query_data": False,
    "http_bodies": [],
    "user_info": False,
    "cookies": {"mode": "off"},
    "url_query_params": {"mode": "off"},
}


def init_sentry(
    dsn: str | None, *, role: str, environment: str = "production", traces: float = 0.0, release: str | None = None
) -> bool:
    """Start Sentry for this process.

    Args:
        dsn: where to send; None or empty leaves Sentry off (and not even imported).
        role: worker, gateway, …: a tag.
        environment: production, staging, …
        traces: share of runs and requests whose timing is sent, 0 to 1. What fails is in its trace at 0 as well.
        release: version of the project; by default the installed one.

    Returns:
        Whether it is on.
    """
    if not dsn:
        return False
    import sentry_sdk
    from sentry_sdk.integrations.logging import ignore_logger
    from sentry_sdk.integrations.openai import OpenAIIntegration
    from sentry_sdk.integrations.openai_agents import OpenAIAgentsIntegration

    # A call that failed is no fault of the program, and most are tried again: our policies decide what is to be told.
    ignore_logger("openai.agents")
    sentry_sdk.init(
        dsn=dsn,
        release=release or f"chatkit-workers@{version('chatkit-workers')}",
        environment=environment,
        traces_sample_rate=traces or None,
        data_collection=COLLECT,
        include_local_variables=False,
        max_request_body_size="never",
        before_send=scrub,
        before_send_transaction=scrub_transaction,
        before_breadcrumb=scrub_breadcrumb,
        # One captures each failed call; the other fails a run when a server leaves `usage.input_tokens_details` out.
        disabled_integrations=[OpenAIIntegration(), OpenAIAgentsIntegration()],
    )
    sentry_sdk.set_tag("role", role)
    return True


def is_on() -> bool:
    """Whether this process has started it. Without importing it, for those that have not."""
    module = sys.modules.get("sentry_sdk")
    return module is not None and module.get_client().is_active()


def tell_of_dead_letter(event_id: str, type_: str, reason: str, kind: str | None, tenant: str | None) -> None:
    """One message per dead letter, grouped by reason and class of error. Nothing while Sentry is off."""
    if not is_on():
        return
    import sentry_sdk

    with sentry_sdk.new_scope() as scope:
        scope.set_tag("event_type", type_)
        scope.set_tag("reason", reason)
        scope.set_tag("error", kind or "none")
        if tenant is not None:
            scope.set_tag("tenant", tenant)
        scope.set_extra("event_id", event_id)
        scope.fingerprint = ["dead_letter", reason, kind or ""]
        scope.capture_message(f"dead letter: {reason} ({kind or 'no error'})", level="error")


@contextmanager
def traced(name: str, event_id: str, attempt: int, traceparent: str | None) -> Iterator[None]:
    """What Sentry is told inside belongs to a run of an event, and to the trace that the event came with.

    The event carries its trace through the queue, not the message: that is a wake-up of the lane, which may be sent by
    another worker, for the third attempt, an hour later.
    """
    if not is_on():
        yield
        return
    import sentry_sdk

    with sentry_sdk.isolation_scope() as scope:
        scope.set_tag("event_type", name)
        scope.set_tag("attempt", str(attempt))
        scope.set_extra("event_id", event_id)
        headers = {"sentry-trace": of_sentry(traceparent)} if traceparent else {}
        run = sentry_sdk.continue_trace(headers, op="queue.process", name=name, source="task")
        with sentry_sdk.start_transaction(run):
            yield


def started_trace() -> str | None:
    """The trace of the request that is answered here, as a W3C traceparent; None while Sentry is off."""
    if not is_on():
        return None
    import sentry_sdk

    parts = (sentry_sdk.get_traceparent() or "").split("-")
    if parts == [""]:
        return None
    return f"00-{parts[0]}-{parts[1]}-{'01' if parts[2:] == ['1'] else '00'}"


def of_sentry(traceparent: str) -> str:
    """A W3C traceparent as Sentry writes it. Whether to sample is left open unless it says so."""
    _, trace, span, flags = traceparent.split("-")
    return f"{trace}-{span}-1" if int(flags, 16) & 1 else f"{trace}-{span}"


def check_in(slug: str, every_minutes: int) -> None:
    """Say that a job that is to run all the time has run. Sentry alerts when nobody has said so for a few minutes."""
    if not is_on():
        return
    from sentry_sdk.crons import capture_checkin

    schedule: Any = {"type": "interval", "value": every_minutes, "unit": "minute"}
    config: Any = {"schedule": schedule, "checkin_margin": CHECK_IN_MARGIN_MINUTES, "max_runtime": every_minutes}
    capture_checkin(monitor_slug=slug, status="ok", monitor_config=config)


def scrub_transaction(event: Any, _hint: Any = None) -> Any:
    """Keep of a transaction what took how long, not with what: calls and queries may quote a prompt or a key."""
    event = scrub(event)
    for span in event.get("spans", []):
        span.pop("data", None)
        span.pop("description", None)
    context = event.get("contexts", {}).get("trace", {})
    context.pop("data", None)
    return event


def scrub(event: Any, _hint: Any = None) -> Any:
    """Hide what an error or a log line may quote: texts of foreign exceptions, arguments of log messages."""
    for error in event.get("exception", {}).get("values", []):
        if error.get("module") not in OUR_ERRORS:
            error["value"] = HIDDEN
        for frame in error.get("stacktrace", {}).get("frames", []):
            frame.pop("vars", None)
    entry = event.get("logentry")
    if entry:
        entry.pop("params", None)
        entry.pop("formatted", None)
    event.pop("request", None)
    return event


def scrub_breadcrumb(crumb: MutableMapping[str, Any], hint: Any = None) -> Any:
    """Keep of a breadcrumb what happened, not with what: of a log line its template, of a call its status."""
    data = crumb.get("data") or {}
    crumb["data"] = {name: data[name] for name in ("method", "status_code", "reason") if name in data}
    record = (hint or {}).get("log_record")
    template = getattr(record, "msg", None)
    crumb["message"] = template if isinstance(template, str) else None
    return crumb
