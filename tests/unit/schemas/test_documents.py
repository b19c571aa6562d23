"""The generated documents: up to date, sound, and true."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource

from schemas.errors import InvalidEventError
from schemas.events import event_types, parse_event
from schemas.examples import example_event
from schemas.export import FOLDER, documents, made_with, render, write

KEYS = re.compile(r"^[a-zA-Z0-9._-]+$")
"""What AsyncAPI allows as the name of a channel, message or operation."""


DOCUMENTS = documents()


@pytest.fixture(scope="module")
def written() -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.json")}


def validator(reference: str) -> jsonschema.Draft202012Validator:
    """Validates against a document of ours, or a part of one; documents refer to each other as files do."""
    resources = [
        (name, Resource.from_contents(document)) for name, document in DOCUMENTS.items() if "$schema" in document
    ]
    registry: Registry[Any] = Registry().with_resources(resources)
    return jsonschema.Draft202012Validator({"$ref": reference.removeprefix("./")}, registry=registry)


def test_the_committed_documents_are_those_that_the_code_makes(written: dict[str, dict[str, Any]]) -> None:
    remedy = "run `python -m schemas.export` and commit schemas/json"
    assert set(written) == set(DOCUMENTS), remedy
    if written["events.schema.json"]["x-made-with"] == made_with():
        for name, document in DOCUMENTS.items():
            assert (FOLDER / name).read_text(encoding="utf-8") == render(document), remedy
    else:  # another release of the libraries words some things differently; what we promise is in there all the same
        for name, document in DOCUMENTS.items():
            assert set(written[name].get("$defs", ())) <= set(document.get("$defs", ())), remedy


def test_writing_is_deterministic_and_removes_what_no_longer_belongs(tmp_path: Path) -> None:
    (tmp_path / "old.schema.json").write_text("{}")
    first = {path.name: path.read_bytes() for path in write(tmp_path)}
    assert {path.name: path.read_bytes() for path in write(tmp_path)} == first
    assert {path.name for path in tmp_path.iterdir()} == set(first) == set(DOCUMENTS)


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name.endswith(".schema.json")])
def test_each_schema_is_sound_and_every_reference_in_it_leads_somewhere(name: str) -> None:
    document = DOCUMENTS[name]
    jsonschema.Draft202012Validator.check_schema(document)
    for reference in references(document):
        assert reference.startswith("#/$defs/")
        assert reference.removeprefix("#/$defs/") in document["$defs"]


@pytest.mark.parametrize("type_", event_types())
def test_the_schema_takes_the_example_of_its_type_and_of_no_other(type_: str) -> None:
    event = json.loads(parse_event(example_event(type_)).to_json())
    validator("events.schema.json").validate(event)
    others = [other for other in event_types() if validator(f"events.schema.json#/$defs/{other}").is_valid(event)]
    assert others == [type_]


@pytest.mark.parametrize(
    "change",
    [
        {"specversion": "0.3"},
        {"userid": "a b"},
        {"tenant": "a/b"},
        {"id": ""},
        {"source": "a\nb"},
        {"priority": "high"},
        {"userId": "u1"},
        {"note": {"a": 1}},
        {"data": []},
        {"data": {"type": "threads.create", "params": {}}},
        {"datacontenttype": "text/plain"},
    ],
)
def test_schema_and_parser_refuse_the_same(change: dict[str, Any]) -> None:
    event = {**example_event("chatkit.items.feedback"), **change}
    assert not validator("events.schema.json").is_valid(event)
    with pytest.raises(InvalidEventError):
        parse_event(event)


def test_the_records_of_the_contract_are_there() -> None:
    defs = DOCUMENTS["records.schema.json"]["$defs"]
    assert set(defs["Acceptance"]["properties"]) == {"id", "thread_id", "state", "duplicate"}
    assert set(defs["DeadLetter"]["properties"]) >= {
        "id", "source", "type", "thread_id", "tenant", "reason", "error", "attempts", "died_at", "trace_id",
    }  # fmt: skip
    assert set(defs["EventStatus"]["properties"]) == {
        "id", "source", "type", "lane", "state", "reason", "attempt", "place", "eta_seconds", "accepted_at",
        "started_at", "ended_at", "last_frame_id", "joined",
        "traceparent",
    }  # fmt: skip


def test_asyncapi_has_the_ways_in_and_the_streams_out() -> None:
    document = DOCUMENTS["asyncapi.json"]
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    addresses = {name: channel["address"] for name, channel in document["channels"].items()}
    assert addresses == {
        "ingress": "ck:ingress",
        "events": "chatkit.events",
        "ingestTask": "chatkit.events",
        "eventStream": "/v1/events/{id}/stream",
        "threadStream": "/v1/threads/{id}/stream",
    }
    assert set(document["channels"]["threadStream"]["messages"]) == {"frame", "turnEnd"}
    assert document["operations"]["streamThread"]["channel"] == {"$ref": "#/channels/threadStream"}
    assert document["channels"]["events"]["bindings"]["amqp"]["exchange"]["type"] == "topic"


def test_asyncapi_is_sound() -> None:
    document = DOCUMENTS["asyncapi.json"]
    assert set(document) <= {
        "asyncapi",
        "id",
        "info",
        "defaultContentType",
        "servers",
        "channels",
        "operations",
        "components",
    }
    for section in (
        document["servers"],
        document["channels"],
        document["operations"],
        document["components"]["messages"],
    ):
        assert all(KEYS.match(name) for name in section)
    for server in document["servers"].values():
        assert {"host", "protocol"} <= server.keys()
    for channel in document["channels"].values():
        placeholders = set(re.findall(r"{(\w+)}", channel["address"]))
        assert placeholders == set(channel.get("parameters", {}))
        assert all(message.keys() == {"$ref"} for message in channel["messages"].values())
    for operation in document["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert operation["channel"]["$ref"].startswith("#/channels/")
    for reference in references(document):
        assert resolves(document, reference), reference


@pytest.mark.parametrize("channel", ["ingress", "events"])
def test_every_event_type_is_a_message_of_each_plain_way_in(channel: str) -> None:
    assert set(DOCUMENTS["asyncapi.json"]["channels"][channel]["messages"]) == set(event_types())


@pytest.mark.parametrize("name", list(DOCUMENTS["asyncapi.json"]["components"]["messages"]))
def test_every_message_of_asyncapi_has_examples_that_its_payload_takes(name: str) -> None:
    message = DOCUMENTS["asyncapi.json"]["components"]["messages"][name]
    assert message["name"] == name
    assert message["payload"]["schemaFormat"] == "application/schema+json;version=draft-2020-12"
    assert message["examples"]
    for example in message["examples"]:
        validator(message["payload"]["schema"]["$ref"]).validate(example["payload"])
        if name in event_types():
            assert parse_event(example["payload"]).type == name


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "$ref":
                yield inner
            elif name != "examples":
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def resolves(document: dict[str, Any], reference: str) -> bool:
    """Whether a reference leads somewhere: inside the document, or into one that lies beside it."""
    name, _, pointer = reference.partition("#")
    value: Any = DOCUMENTS[name.removeprefix("./")] if name else document
    for part in pointer.split("/")[1:]:
        if part not in value:
            return False
        value = value[part]
    return True
