"""Plug-ins: what they may add, and what stops a start-up."""

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, function_tool

from schemas.outcome import Done, Dropped, DropReason, Outcome
from tests.builders import NOW, create_event, delivery_of
from workers import plugins as plugins_module
from workers.agents.scripted import ScriptedModel
from workers.agents.team import build_team
from workers.dispatch import Dispatcher
from workers.errors import SettingsError
from workers.plugins import Plugins, load_plugins, router_of
from workers.policies.compose import Handler
from workers.policies.delivery import Delivery
from workers.policies.filter import FilterPolicy
from workers.policies.retry import RetryPolicy
from workers.settings import Settings

MODULE = """
from agents import Agent

def register(plugins):
    plugins.add_agent("weather", lambda model: Agent(name="Weather Agent", model=model))

def twice(plugins):
    register(plugins)
    register(plugins)

def breaks(plugins):
    raise KeyError("of its own")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with plug-ins, on the path."""
    name = f"plug_in_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


@function_tool
def measure() -> str:
    """Measure."""
    return "42"


def test_a_plug_in_is_called_once_in_a_process_and_its_agent_has_a_queue(module: str) -> None:
    settings = Settings(plugins=f"{module}:register")
    assert load_plugins(settings.plugins) is load_plugins(settings.plugins)
    assert router_of(settings).queues[-1] == "chatkit.agent.weather"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("gone", "cannot be loaded (AttributeError: module '{}' has no attribute 'gone'): is it on the Python path"),
        ("twice", 'agent "weather" is there already; use another name'),
        ("breaks", "failed (KeyError: 'of its own'): correct it, or take it out"),
    ],
)
def test_what_is_wrong_with_a_plug_in_is_one_line_that_names_it(module: str, function: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_plugins(f"{module}:{function}")
    line = str(caught.value)
    assert line.startswith(f"CHATKIT_PLUGINS: {module}:{function}")
    assert said.format(module) in line
    assert "\n" not in line


def test_a_module_that_is_not_there_is_told() -> None:
    with pytest.raises(SettingsError, match=r"CHATKIT_PLUGINS: no\.such:thing cannot be loaded \(ModuleNotFoundError"):
        load_plugins("no.such:thing")


def test_entry_points_of_packages_are_plug_ins_as_well(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", f"{module}:register", plugins_module.GROUP)
    monkeypatch.setattr(plugins_module, "entry_points", lambda *, group: [point] if group == point.group else [])
    assert list(load_plugins.__wrapped__("").agents) == ["weather"]
    broken = EntryPoint("mine", "no.such:thing", plugins_module.GROUP)
    monkeypatch.setattr(plugins_module, "entry_points", lambda *, group: [broken])
    with pytest.raises(
        SettingsError, match=r"entry point mine \(no\.such:thing\) cannot be loaded .*: correct or unin"
    ):
        load_plugins.__wrapped__("")


def test_agents_of_plug_ins_and_the_projects_own_hand_off_to_each_other() -> None:
    plugins = Plugins()
    plugins.add_agent("weather", lambda model: Agent(name="Weather Agent", model=model))
    plugins.add_tools("integration", measure)
    plugins.add_tools("weather", measure)
    team = build_team(ScriptedModel(), more=plugins.agents, tools=plugins.tools)
    weather = team.answering("weather")
    assert team.answering("Weather Agent") is weather
    assert {handoff.agent_name for handoff in weather.handoffs} == {agent.name for agent in team.agents[:3]}  # type: ignore[union-attr]  # tied by the team
    assert all("Weather Agent" in {h.agent_name for h in agent.handoffs} for agent in team.agents[:3])  # type: ignore[union-attr]  # same
    for agent in (weather, team.answering("integration")):
        assert "measure" in {tool.name for tool in agent.tools}
    assert "measure" not in {tool.name for tool in team.answering("ui_coordination").tools}


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda _: 1 / 0, "agent weather cannot be built (ZeroDivisionError: division by zero): correct the plug-in"),
        (lambda _: Agent(name="Weather"), "agent weather: its plug-in has to make an `agents.Agent` on the model"),
        (
            lambda model: Agent(name="UI Coordination Agent", model=model),
            'agent weather: there is an agent named "UI Coordination Agent" already; give it another name',
        ),
    ],
)
def test_an_agent_that_cannot_be_built_is_one_line(build: Callable[[Any], Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build_team(ScriptedModel(), more={"weather": build})
    assert str(caught.value).startswith(said)


def add_twice(add: Callable[[Plugins], None]) -> Callable[[Plugins], None]:
    def both(plugins: Plugins) -> None:
        add(plugins)
        add(plugins)

    return both


nothing: Any = object()
"""Is never called."""


@pytest.mark.parametrize(
    ("add", "said"),
    [
        (lambda plugins: plugins.add_agent("Weather Agent", nothing), "use lower-case letters, digits and underscores"),
        (lambda plugins: plugins.add_agent("integration", nothing), 'agent "integration" is there already'),
        (lambda plugins: plugins.add_tools("wether", measure), 'there is no agent "wether"; there are integration, ui'),
        (add_twice(lambda plugins: plugins.handle_action("a.b", nothing)), 'handler of action "a.b" is there already'),
        (add_twice(lambda plugins: plugins.handle_events("ping", nothing)), 'handler "ping" is there already'),
        (add_twice(lambda plugins: plugins.use_transcriber(nothing)), "there is a transcriber already"),
        (add_twice(lambda plugins: plugins.use_services(nothing)), "there are services already"),
    ],
)
def test_a_wrong_unknown_or_taken_name_is_refused(add: Callable[[Plugins], None], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        add(Plugins())
    assert said in str(caught.value)


class Night:
    """A policy of a plug-in: at night nothing runs. A judge as well, for events that run in a batch."""

    async def __call__(self, delivery: Delivery, call_next: Handler) -> Outcome:
        return self.judge(delivery)

    def judge(self, delivery: Delivery) -> Outcome:
        return Dropped(DropReason.FILTERED)


async def test_a_policy_of_a_plug_in_stands_right_inside_the_filter_and_judges_batches_too() -> None:
    async def run(_: Delivery) -> Outcome:
        return Done()

    night = Night()
    dispatcher = Dispatcher(Settings(), run, run, now=lambda: NOW, more=[night])
    event = create_event()
    stack = list(dispatcher.policies(event.type))
    place = stack.index(night)
    assert isinstance(stack[place - 1], FilterPolicy)
    assert isinstance(stack[place + 1], RetryPolicy)
    assert await dispatcher(delivery_of(event)) == dispatcher.judge(delivery_of(event)) == Dropped(DropReason.FILTERED)
