"""The example of a plug-in, with the variables of its own README, in the processes of a deployment."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deployment import Deployment, sign_in
from tests.forked import ROOT
from tests.unit.gateway.parsing import parse_sse
from tests.unit.gateway.stage import create_request, message_request
from tests.viewer import answer_of
from tests.web_process import gateway_process
from tests.worker_process import WorkerProcess

EXAMPLES = ROOT / "deploy" / "examples"


def variables_of(readme: Path) -> dict[str, str]:
    """What it exports."""
    return dict(re.findall(r"^\$ export ([A-Z_]+)=(\S+)$", readme.read_text(), re.MULTILINE))


class Page:
    """A user's page at the gateway."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def send(self, request: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
        """Send a request; the id of its event, and the frames of the answer."""
        answer = await self.http.post("/chatkit", json=request)
        assert answer.status_code == 200, answer.text
        frames = [json.loads(event.data) for event in parse_sse(answer.content) if event.event != "end" and event.data]
        return answer.headers["x-event-id"], frames


@pytest.fixture
def gateway(redis_url: str, sqlite_url: str) -> Iterator[str]:
    """The address of a gateway, with a worker for the agent and one for the rest; in interpreters of their own, whose
    path is the variables'."""
    variables = variables_of(EXAMPLES / "README.md")
    assert variables.keys() == {"PYTHONPATH", "CHATKIT_PLUGINS", "CHATKIT_ROUTES"}
    variables["PYTHONPATH"] += f":{ROOT}"
    with Deployment(redis_url, sqlite_url) as deployment, ExitStack() as stack:
        environment = deployment.environment | variables
        for queues in ("chatkit.interactive,chatkit.background", "chatkit.agent.weather"):
            stack.enter_context(WorkerProcess(environment=environment, options=["-Q", queues], fresh=True).start(120))
        yield stack.enter_context(gateway_process(environment, fresh=True))


@pytest.fixture
async def page(gateway: str) -> AsyncIterator[Page]:
    async with httpx.AsyncClient(base_url=gateway, timeout=30) as http:
        http.headers.update(await sign_in(http))
        yield Page(http)


def text(frames: list[dict[str, Any]]) -> str:
    return answer_of(json.dumps(frame) for frame in frames)


@pytest.mark.redis
async def test_another_agent_answers_in_its_own_queue_by_a_route_a_handoff_a_button_and_a_handler(page: Page) -> None:
    _, routed = await page.send(create_request("What is the weather in Oslo?"))
    assert text(routed) == "The card shows: Oslo: sunny."
    thread = next(frame["thread"]["id"] for frame in routed if frame["type"] == "thread.created")
    [card] = [frame["item"] for frame in routed if frame.get("item", {}).get("type") == "widget"]
    assert not [frame for frame in routed if frame["type"] == "progress_update"]  # nobody handed over

    action = {"type": "weather.next_day", "payload": {"city": "Oslo", "day": 1}}
    params = {"thread_id": thread, "item_id": card["id"], "action": action}
    _, pressed = await page.send({"type": "threads.custom_action", "params": params})
    [replaced] = [frame["item"] for frame in pressed if frame["type"] == "thread.item.replaced"]
    assert (replaced["id"], "Oslo: cloudy" in json.dumps(replaced["widget"])) == (card["id"], True)

    _, pinged = await page.send(message_request(thread, "/ping"))
    assert text(pinged) == "pong"

    _, handed_over = await page.send(message_request(thread, "Weather, please"))
    assert [f["text"] for f in handed_over if f["type"] == "progress_update"] == ["Handing over to the Weather Agent"]
    assert text(handed_over) == "The card shows: Oslo: sunny."
