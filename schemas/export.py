"""Writes `schemas/json/*.json`: JSON Schema of what goes over the wire, and AsyncAPI. `python -m schemas.export`."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind, models_json_schema

from schemas.asyncapi import asyncapi_document
from schemas.catalogue import data_models, event_types, is_request, may_lack_data
from schemas.chatkit import stream_event_adapter
from schemas.events import Event
from schemas.examples import example_event
from schemas.records import Acceptance, DeadLetter, EndFrame, EventStatus, PageState, Published, TurnEndFrame
from schemas.sessions import RefreshRequest, SecretEffectData, Session, SessionRequest

FOLDER = Path(__file__).parent / "json"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
RECORDS: tuple[type[BaseModel], ...] = (
    Published,
    Acceptance,
    EventStatus,
    EndFrame,
    TurnEndFrame,
    DeadLetter,
    Session,
    SecretEffectData,
    PageState,
)

Mode = Literal["validation", "serialization"]


class QuietGenerator(GenerateJsonSchema):
    """`chatkit.actions.Action` has a default that is no JSON; it is left out, without a warning at our users."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012  # declared so by the base class
        "skipped-choice",
        "non-serializable-default",
    }


def documents() -> dict[str, dict[str, Any]]:
    """File name -> document, the same at every call."""
    return {
        "events.schema.json": events_schema(),
        "frames.schema.json": frames_schema(),
        "records.schema.json": records_schema(),
        "asyncapi.json": asyncapi_document(),
    }


def events_schema() -> dict[str, Any]:
    """One definition per event type, named like it."""
    types = event_types()
    models: dict[type[BaseModel], Mode] = dict.fromkeys([Event, *data_models().values()], "validation")
    references, defs = _definitions(list(models.items()))
    _describe_extensions(defs["Event"])
    for type_ in types:
        defs[type_] = _typed(type_, references[data_models()[type_], "validation"])
    any_event = [{"$ref": f"#/$defs/{type_}"} for type_ in types]
    defs["chatkit.ingest"] = _task_message(any_event)
    return {
        "$schema": DRAFT,
        "title": "ChatKit events (CloudEvents 1.0, structured JSON)",
        "x-made-with": made_with(),
        "oneOf": any_event,
        "$defs": defs,
    }


def frames_schema() -> dict[str, Any]:
    """The official union of frames."""
    schema = stream_event_adapter().json_schema(mode="serialization", schema_generator=QuietGenerator)
    return {"$schema": DRAFT, "title": "Frames (ThreadStreamEvent)", "x-made-with": made_with(), **schema}


def records_schema() -> dict[str, Any]:
    """Answers of the HTTP interface, the end of a stream, and dead letters."""
    bodies: list[tuple[type[BaseModel], Mode]] = [(SessionRequest, "validation"), (RefreshRequest, "validation")]
    _, defs = _definitions([*((model, "serialization") for model in RECORDS), *bodies])
    return {"$schema": DRAFT, "title": "Records", "x-made-with": made_with(), "$defs": defs}


def made_with() -> dict[str, str]:
    """The libraries whose versions decide what is generated."""
    return {name: importlib.metadata.version(name) for name in ("openai-chatkit", "pydantic")}


def write(folder: Path = FOLDER) -> list[Path]:
    """Write every document; files that no longer belong there go."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {folder / name: render(document) for name, document in documents().items()}
    for stale in set(folder.glob("*.json")) - wanted.keys():
        stale.unlink()
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    return sorted(wanted)


def render(document: dict[str, Any]) -> str:
    """The text of a document: sorted, so that a change shows as what it is."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _definitions(models: list[tuple[type[BaseModel], Mode]]) -> tuple[Any, dict[str, Any]]:
    references, schema = models_json_schema(models, schema_generator=QuietGenerator)
    return references, schema["$defs"]


def _describe_extensions(envelope: dict[str, Any]) -> None:
    """pydantic says that others are allowed; CloudEvents says which."""
    envelope["propertyNames"] = {"pattern": "^[a-z0-9]{1,64}$"}
    envelope["additionalProperties"] = {"type": ["string", "integer", "boolean"]}


def _typed(type_: str, data: dict[str, Any]) -> dict[str, Any]:
    """The envelope with this type, and the data that belongs to it."""
    if is_request(type_):
        data = {"allOf": [data], "required": ["type"]}
    return {
        "title": type_,
        "allOf": [{"$ref": "#/$defs/Event"}],
        "properties": {"type": {"const": type_}, "data": data},
        "required": ["type"] if may_lack_data(type_) else ["type", "data"],
        "examples": [example_event(type_)],
    }


def _task_message(any_event: list[dict[str, str]]) -> dict[str, Any]:
    argument = {"anyOf": [*any_event, {"type": "array", "items": {"anyOf": any_event}}]}
    arguments = {"type": "array", "prefixItems": [argument], "minItems": 1, "maxItems": 1}
    return {
        "title": "chatkit.ingest (Celery message protocol 2)",
        "type": "array",
        "prefixItems": [arguments, {"type": "object"}, {"type": "object"}],
        "minItems": 3,
        "maxItems": 3,
    }


if __name__ == "__main__":
    for path in write():
        print(path)  # noqa: T201  # the command's output
