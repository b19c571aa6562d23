"""A plug-in: an agent with a tool of its own, a button that code answers, and a handler that a route names."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from agents import Agent, Model, function_tool
from agents.extensions.handoff_prompt import prompt_with_handoff_instructions
from chatkit.widgets import DynamicWidgetRoot

from schemas.chatkit import (
    Action,
    AssistantMessageContent,
    AssistantMessageItem,
    ThreadItemDoneEvent,
    ThreadItemReplacedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    WidgetItem,
)
from schemas.events import Event
from workers.agents.ports import ToolContext
from workers.chat.context import TurnContext
from workers.plugins import Plugins

SKIES = ("sunny", "cloudy", "rainy", "windy")
"""A real plug-in would ask a weather service here."""


def forecast(city: str, day: int = 0) -> str:
    """The weather of a city, `day` days from tomorrow."""
    return f"{city.title()}: {SKIES[(len(city) + day) % len(SKIES)]}"


def card(city: str, day: int) -> DynamicWidgetRoot:
    """The forecast, with a button for the day after it."""
    action = {"type": "weather.next_day", "payload": {"city": city, "day": day + 1}, "handler": "server"}
    children = [
        {"type": "Text", "value": forecast(city, day)},
        {"type": "Button", "label": "The day after", "onClickAction": action},
    ]
    return DynamicWidgetRoot.model_validate({"type": "Card", "children": children})


@function_tool
async def get_weather(wrapper: ToolContext, city: str = "Oslo") -> str:
    """Show the weather of tomorrow.

    Args:
        city: Name of the city.
    """
    await wrapper.context.stream_widget(card(city, 0), copy_text=forecast(city))
    return f"The card shows: {forecast(city)}."


def build_agent(model: Model) -> Agent[Any]:
    """Called once for each model of the deployment. Who hands off to whom is tied outside."""
    return Agent(
        name="Weather Agent",
        handoff_description="Knows the weather of tomorrow in any city.",
        instructions=prompt_with_handoff_instructions("Show the weather with `get_weather`, then say it."),
        model=model,
        tools=[get_weather],
    )


async def next_day(
    thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: TurnContext
) -> AsyncIterator[ThreadStreamEvent]:
    """The button of the card: code answers, no model is called. What the page sends is checked here."""
    city, day = str(action.payload.get("city", "Oslo"))[:80], int(action.payload.get("day", 0))
    if sender is not None:
        changed = sender.model_copy(update={"widget": card(city, day), "copy_text": forecast(city, day)})
        yield ThreadItemReplacedEvent(item=changed)


async def answer_ping(event: Event, thread: ThreadMetadata, context: TurnContext) -> AsyncIterator[ThreadStreamEvent]:
    """A whole event that code answers."""
    item = AssistantMessageItem(
        id=context.next_id("message"),  # the same in every attempt
        thread_id=thread.id,
        created_at=datetime.now(),  # noqa: DTZ005  # ChatKit's times are naive and local
        content=[AssistantMessageContent(text="pong")],
    )
    yield ThreadItemDoneEvent(item=item)


def register(plugins: Plugins) -> None:
    """What `CHATKIT_PLUGINS=weather_agent:register` calls, once, at start-up."""
    plugins.add_agent("weather", build_agent)
    plugins.handle_action("weather.next_day", next_day)
    plugins.handle_events("ping", answer_ping)
