"""The model behind the agents, built from the settings: a provider's, or the scripted one when there is no key."""

import logging
from collections.abc import Awaitable, Callable, Mapping

from agents import Model, OpenAIResponsesModel, set_tracing_disabled
from httpx2 import Limits, Response, Timeout
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from workers.agents.scripted import ScriptedModel
from workers.settings import Settings

log = logging.getLogger(__name__)

TIMEOUT = Timeout(connect=5.0, write=30.0, read=120.0, pool=5.0)
"""Of one call, in seconds. `read` is the longest silence between two chunks; the turn as a whole has its own limit."""


class ProviderModel(OpenAIResponsesModel):
    """A model of an OpenAI-compatible server, through the Responses API. It owns its client."""

    def __init__(self, name: str, client: AsyncOpenAI) -> None:
        super().__init__(name, client)
        self._owned_client = client

    async def close(self) -> None:
        await self._owned_client.close()


Headers = Callable[[str, Mapping[str, str]], None]
"""Told the name of the model and the headers of each answer; must not wait."""


def build_model(
    settings: Settings, name: str | None = None, *, timeout: Timeout = TIMEOUT, on_headers: Headers | None = None
) -> Model:
    """A model of the process; whoever builds it awaits its `close()`. Call it on the loop that will use it.

    Args:
        settings: of the deployment.
        name: of the model; the deployment's by default.
        timeout: of one call.
        on_headers: is told the headers of every answer, a refusal's too.
    """
    set_tracing_disabled(True)  # of every run of this process: traces would hold the conversations
    if settings.scripted:
        log.warning("NO MODEL IS CONFIGURED, answers are scripted: set OPENAI_API_KEY or OPENAI_BASE_URL")
        return ScriptedModel()
    name = name or settings.model
    hooks = [_hook(name, on_headers)] if on_headers is not None else []
    return ProviderModel(name, _client(settings, timeout, hooks))


def _hook(name: str, on_headers: Headers) -> Callable[[Response], Awaitable[None]]:
    async def tell(response: Response) -> None:
        on_headers(name, response.headers)

    return tell


def _client(settings: Settings, timeout: Timeout, hooks: list[Callable[[Response], Awaitable[None]]]) -> AsyncOpenAI:
    # every running turn may hold one connection; the rest is for the moment between two of them
    limits = Limits(max_connections=settings.concurrency + 10, max_keepalive_connections=settings.concurrency)
    key = settings.openai_api_key
    return AsyncOpenAI(
        # servers of one's own often want no key, but the client insists on one
        api_key=key.get_secret_value() if key else "none",
        base_url=settings.openai_base_url,
        max_retries=0,  # the queue owns waiting: a retry in here would hold the lane and the place in the pool
        timeout=timeout,
        http_client=DefaultAsyncHttpxClient(limits=limits, timeout=timeout, event_hooks={"response": hooks}),
    )
