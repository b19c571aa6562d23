"""The AsyncAPI 3.0 document: the ways in, the streams out, and the message of every event type."""

from typing import Any

from schemas.bindings import STRUCTURED_TYPE
from schemas.catalogue import data_models, event_types, is_request
from schemas.events import event_id
from schemas.examples import example_event

CONTRACT_VERSION = "1.0.0"
"""Version of the public contract, not of the package: it changes when a document's meaning does."""

JSON_SCHEMA_FORMAT = "application/schema+json;version=draft-2020-12"
TASK_MESSAGE = "chatkit.ingest"
EXAMPLE_FRAME = {
    "type": "thread.item.updated",
    "item_id": "msg_1",
    "update": {"type": "assistant_message.content_part.text_delta", "content_index": 0, "delta": "Your order"},
}


def asyncapi_document() -> dict[str, Any]:
    """Payloads refer to the JSON Schema documents that lie beside it."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "chatkit-workers",
            "version": CONTRACT_VERSION,
            "description": "CloudEvents 1.0 of ChatKit conversations go in; streamed answers come out.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": STRUCTURED_TYPE,
        "servers": {
            "redis": {"host": "127.0.0.1:6379", "protocol": "redis", "description": "CHATKIT_BROKER_URL redis://"},
            "rabbitmq": {"host": "127.0.0.1:5672", "protocol": "amqp", "description": "CHATKIT_BROKER_URL amqp://"},
            "gateway": {"host": "127.0.0.1:8000", "protocol": "http", "description": "`chatkit-workers gateway`"},
        },
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages()},
    }


def _channels() -> dict[str, Any]:
    events = {type_: {"$ref": f"#/components/messages/{type_}"} for type_ in event_types()}
    frame, end, turn_end = ({"$ref": f"#/components/messages/{name}"} for name in ("frame", "end", "turnEnd"))
    return {
        "ingress": {
            "address": "ck:ingress",
            "title": "Redis stream of plain events",
            "description": "XADD ck:ingress * event <JSON>. `ck` is CHATKIT_PREFIX. Publish order is kept.",
            "servers": [{"$ref": "#/servers/redis"}],
            "messages": events,
        },
        "events": {
            "address": "chatkit.events",
            "title": "AMQP exchange of plain events",
            "description": "CloudEvents JSON with any routing key, by custom the event's type. Publish order is kept.",
            "servers": [{"$ref": "#/servers/rabbitmq"}],
            "messages": events,
            "bindings": {
                "amqp": {
                    "is": "routingKey",
                    "exchange": {"name": "chatkit.events", "type": "topic", "durable": True, "autoDelete": False},
                    "bindingVersion": "0.3.0",
                }
            },
        },
        "ingestTask": {
            "address": "chatkit.events",
            "title": "Celery queue of the task chatkit.ingest",
            "description": "send_task('chatkit.ingest', [event]) or [[event, …]]. Best effort on Redis; on RabbitMQ by "
            "the exchange chatkit.tasks with the routing key chatkit.events.",
            "servers": [{"$ref": "#/servers/redis"}, {"$ref": "#/servers/rabbitmq"}],
            "messages": {TASK_MESSAGE: {"$ref": f"#/components/messages/{TASK_MESSAGE}"}},
        },
        "eventStream": _stream(
            "/v1/events/{id}/stream", "The frames of one event.", "evt_…, the event's id", {"frame": frame, "end": end}
        ),
        "threadStream": _stream(
            "/v1/threads/{id}/stream",
            "The frames of a thread's turns, one turn after another, without an end.",
            "thr_…, the thread's id",
            {"frame": frame, "turnEnd": turn_end},
        ),
    }


def _stream(address: str, title: str, id_: str, messages: dict[str, Any]) -> dict[str, Any]:
    return {
        "address": address,
        "title": title,
        "description": "Server-sent events, each with an id; `Last-Event-ID` goes on after it.",
        "servers": [{"$ref": "#/servers/gateway"}],
        "parameters": {"id": {"description": id_}},
        "messages": messages,
    }


def _operations() -> dict[str, Any]:
    """What this system does: it receives events and sends frames."""
    actions = {
        "takeFromStream": ("receive", "ingress"),
        "takeFromExchange": ("receive", "events"),
        "takeTask": ("receive", "ingestTask"),
        "streamEvent": ("send", "eventStream"),
        "streamThread": ("send", "threadStream"),
    }
    return {
        name: {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}
        for name, (action, channel) in actions.items()
    }


def _messages() -> dict[str, Any]:
    return {
        **{type_: _event_message(type_) for type_ in event_types()},
        TASK_MESSAGE: {
            "name": TASK_MESSAGE,
            "title": "Celery task message",
            "summary": "Celery message protocol 2: [args, kwargs, embed]; args is one event or one list of events.",
            "contentType": "application/json",
            "payload": _schema("events.schema.json#/$defs/chatkit.ingest"),
            "examples": [{"payload": [[example_event("chatkit.items.feedback")], {}, {}]}],
        },
        "frame": {
            "name": "frame",
            "title": "A frame of the answer",
            "summary": "One official ThreadStreamEvent.",
            "contentType": "application/json",
            "payload": _schema("frames.schema.json"),
            "examples": [{"payload": EXAMPLE_FRAME}],
        },
        "end": {
            "name": "end",
            "title": "The last frame, `event: end`",
            "contentType": "application/json",
            "payload": _schema("records.schema.json#/$defs/EndFrame"),
            "examples": [{"payload": {"state": "done", "reason": None}}],
        },
        "turnEnd": {
            "name": "turnEnd",
            "title": "The last frame of a turn, `event: turn.end`",
            "contentType": "application/json",
            "payload": _schema("records.schema.json#/$defs/TurnEndFrame"),
            "examples": [{"payload": {"id": event_id("/shop", "1"), "state": "done", "reason": None}}],
        },
    }


def _event_message(type_: str) -> dict[str, Any]:
    model = data_models()[type_]
    return {
        "name": type_,
        "title": type_,
        "summary": (model.__doc__ or type_).strip().splitlines()[0],
        "contentType": STRUCTURED_TYPE,
        "tags": [{"name": "request" if is_request(type_) else type_.split(".")[1]}],
        "payload": _schema(f"events.schema.json#/$defs/{type_}"),
        "examples": [{"payload": example_event(type_)}],
    }


def _schema(reference: str) -> dict[str, Any]:
    return {"schemaFormat": JSON_SCHEMA_FORMAT, "schema": {"$ref": f"./{reference}"}}
