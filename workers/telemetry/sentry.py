"""Sentry: failures with their place and ids, without a word of any conversation. Off without a DSN."""

import sys
from collections.abc import MutableMapping
from typing import Any

HIDDEN = "[hidden]"
OUR_ERRORS = ("workers.errors", "schemas.errors")
"""Modules whose errors have texts of our own making; any other text may quote a prompt."""

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


def init_sentry(dsn: str | None, *, role: str, release: str | None = None) -> bool:
    """Start Sentry for this process.

    Args:
        dsn: where to send; None or empty leaves Sentry off (and not even imported).
        role: worker, gateway, …: a tag.
        release: version of the project.

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
        release=release,
        data_collection=COLLECT,
        include_local_variables=False,
        max_request_body_size="never",
        before_send=scrub,
        before_breadcrumb=scrub_breadcrumb,
        # One captures each failed call; the other fails a run when a server leaves `usage.input_tokens_details` out.
        disabled_integrations=[OpenAIIntegration(), OpenAIAgentsIntegration()],
    )
    sentry_sdk.set_tag("role", role)
    return True


def tell_of_dead_letter(event_id: str, type_: str, reason: str, kind: str | None) -> None:
    """One message per dead letter, grouped by reason and class of error. Nothing while Sentry is off."""
    if "sentry_sdk" not in sys.modules:
        return
    import sentry_sdk

    with sentry_sdk.new_scope() as scope:
        scope.set_tag("event_type", type_)
        scope.set_tag("reason", reason)
        scope.set_extra("event_id", event_id)
        scope.fingerprint = ["dead_letter", reason, kind or ""]
        scope.capture_message(f"dead letter: {reason} ({kind or 'no error'})", level="error")


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
