"""The page's module, what a page may publish, and what goes on in its thread."""

import json
from typing import Any

import httpx
import pytest

from schemas.bindings import BATCH_TYPE
from schemas.events import event_id, thread_id_of
from tests.unit.gateway.stage import SERVICE, Stage, calling, create_request, message_request
from workers.gateway.page_events import MAX_PAGE_BATCH_BYTES


async def test_the_module_is_served_also_without_the_playground(stage: Stage) -> None:
    stage.settings = stage.settings.model_copy(update={"playground": False})
    async with calling(stage) as client:
        answer = await client.get("/chatkit-workers.js")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert "export function connect" in answer.text


def ui_event(id_: str = "1", type_: str = "chatkit.ui.ready", **attributes: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": id_, "source": "/page", "type": type_, **attributes}


async def publish(client: httpx.AsyncClient, headers: dict[str, str], *events: object) -> httpx.Response:
    return await client.post("/v1/events", content=json.dumps(events), headers={**headers, "Content-Type": BATCH_TYPE})


async def test_a_page_publishes_its_dom_events_in_the_name_of_its_user_only(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    claimed = ui_event(userid="root", tenant="other", sessionid="ses_other", source="/shop")
    answer = await publish(client, stage.bearer(), claimed)
    assert answer.status_code == 202
    [place] = answer.json()
    assert place["id"] == event_id("/tenants/acme/users/u1", "1")
    body = json.loads(await stage.lanes.body(place["id"]) or "")
    assert (body["userid"], body["tenant"], body["source"]) == ("u1", "acme", "/tenants/acme/users/u1")
    assert body["sessionid"] != "ses_other"


async def test_the_same_dom_event_twice_is_one(client: httpx.AsyncClient, stage: Stage) -> None:
    headers = stage.bearer()
    await publish(client, headers, ui_event())
    again = await publish(client, headers, ui_event())
    assert (again.status_code, again.json()[0]["duplicate"]) == (200, True)


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (ui_event(type_="chatkit.threads.create", data=create_request()), "type"),
        (ui_event(type_="chatkit.session.start", data={}), "type"),
        (ui_event(type_="chatkit.action.send", data={"thread_id": "thr_1", "message": "hello"}), "type"),
        (ui_event(data={"session_id": "ses_other"}), "data.session_id"),
        (ui_event(data={"text": "what I wrote"}), "data.text"),
        ("not an event", "event"),
    ],
)
async def test_a_page_publishes_nothing_else(
    client: httpx.AsyncClient, stage: Stage, event: object, field: str
) -> None:
    answer = await publish(client, stage.bearer(), event)
    assert answer.status_code == 400
    assert field in [error["field"] for error in answer.json()[0]["error"]["errors"]]
    assert stage.waker.woken == []


async def test_a_batch_of_a_page_is_bounded(client: httpx.AsyncClient, stage: Stage) -> None:
    answer = await publish(client, stage.bearer(), ui_event(data={"session_id": "x" * MAX_PAGE_BATCH_BYTES}))
    assert answer.status_code == 413


async def test_a_thread_says_what_waits_and_runs_in_it_to_the_user_that_sent_it(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    stage.waker.asleep = True
    event = {"specversion": "1.0", "source": "/shop", "tenant": "acme", "userid": "u1"}
    create = {**event, "id": "1", "type": "chatkit.threads.create", "data": create_request()}
    thread = thread_id_of(event_id("/shop", "1"))
    add = {**event, "id": "2", "type": "chatkit.threads.add_user_message", "data": message_request(thread)}
    published = (await publish(client, SERVICE, create, add)).json()
    answer = await client.get(f"/v1/threads/{thread}/events", headers=stage.bearer())
    assert [(each["id"], each["state"]) for each in answer.json()] == [(each["id"], "queued") for each in published]
    for stranger in (stage.bearer("u2"), stage.bearer("u1", "other")):
        assert (await client.get(f"/v1/threads/{thread}/events", headers=stranger)).json() == []


async def test_a_thread_in_which_nothing_goes_on_says_so(client: httpx.AsyncClient, stage: Stage) -> None:
    answer = await client.get("/v1/threads/thr_1/events", headers=stage.bearer())
    assert (answer.status_code, answer.json()) == (200, [])
    assert (await client.get("/v1/threads/thr_1/events")).status_code == 401
    assert (await client.get("/v1/threads/a{b/events", headers=stage.bearer())).status_code == 400
