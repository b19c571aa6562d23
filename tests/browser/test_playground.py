"""The playground in a real Chromium, with what `chatkit-workers up` starts behind it."""

import re
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import chromium
from tests.browser.npm import npm_packages
from tests.browser.playground import FAR_SECONDS, Playground, playground, second_tab
from tests.embedded_stack import Up, up
from workers.agents.script import LONG, RETRIED

pytestmark = [pytest.mark.browser, pytest.mark.redis, pytest.mark.asyncio(loop_scope="module")]

LEASE_SECONDS = 4
AXE = "axe-core@~4.14"
BREACHES = """async () => {
    const rules = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"];
    const { violations } = await axe.run(document, { runOnly: rules });
    return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html} ${node.failureSummary}`));
}"""
FOCUSED = "document.activeElement.id || document.activeElement.textContent"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Two workers, so that one can be killed and the other goes on."""
    with up(tmp_path_factory.mktemp("playground"), "--workers", "2", lease_ttl=LEASE_SECONDS) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def tab(stack: Up, shared_browser: Browser) -> AsyncIterator[Playground]:
    async with playground(shared_browser, stack.addresses["gateway"]) as tab:
        yield tab


async def test_a_hand_over_and_a_tool_are_shown_and_still_there_after_a_reload(tab: Playground) -> None:
    await tab.try_out("A hand-over and a tool")
    await tab.has_answered("order 1042: status shipped")
    await expect(tab.note("handoff")).to_contain_text("Service Orchestrator Agent")
    await expect(tab.note("step")).to_have_text("Looking up order 1042")
    await expect(tab.page.locator("#log .speaker")).to_have_text(["Service Orchestrator Agent"])
    before = await tab.log()
    assert len(before) == 4
    await tab.reload()
    await expect(tab.page.locator("#log > li")).to_have_count(4)
    assert await tab.log() == before


async def test_conversations_are_listed_and_a_new_one_begins_empty(tab: Playground) -> None:
    await tab.say("hello")
    await tab.has_answered("word by word")
    await tab.button("New conversation").click()
    await expect(tab.page.locator("#log > li")).to_have_count(0)
    await expect(tab.message).to_be_focused()
    await tab.say('rename this to "<b>Lunch</b>"')
    await tab.has_answered("is called “<b>Lunch</b>” now")  # what a model says is text, whatever it looks like
    conversations = tab.page.get_by_role("navigation", name="Conversations").get_by_role("link")
    await expect(conversations).to_have_text(["<b>Lunch</b>", "hello"])
    await conversations.last.click()
    await expect(tab.said).to_have_text(["hello"])
    await expect(tab.page.get_by_role("heading", level=1)).to_have_text("hello")


async def test_an_answer_goes_on_over_a_reload_and_in_a_second_tab_with_no_word_lost_or_doubled(
    tab: Playground,
) -> None:
    await tab.try_out("A long answer")
    await expect(tab.answers).to_contain_text("your message became an event")
    other = await second_tab(tab)
    await tab.page.reload()
    await expect(tab.answers).to_contain_text("Gladly")
    await expect(tab.activity).to_be_visible()
    await other.say("thanks")  # in the other tab, while the answer comes: it waits its turn
    for each in (tab, other):
        await each.has_answered("You are welcome")
        await expect(each.said).to_have_text(["Tell me at length how you work", "thanks"])
        assert await each.answers.nth(0).inner_text() == LONG
        await expect(each.answers).to_have_count(2)


async def test_stop_keeps_what_was_said_and_marks_it_in_every_tab_and_after_a_reload(tab: Playground) -> None:
    await tab.try_out("A long answer")
    await expect(tab.answers).to_contain_text("your message became")
    other = await second_tab(tab)
    await expect(other.answers).to_contain_text("your message became")
    await tab.button("Stop").click()
    for each in (tab, other):
        await expect(each.note("stopped")).to_contain_text("exactly what is kept")
    said = await tab.answers.inner_text()
    assert LONG.startswith(said)
    assert said != LONG
    await tab.reload()
    await expect(tab.answers).to_have_text([said])
    await expect(tab.note("stopped")).to_have_count(1)
    await expect(other.answers).to_have_text([said])


async def test_a_killed_worker_pauses_the_answer_and_another_one_goes_on(tab: Playground, stack: Up) -> None:
    def workers() -> set[int]:
        return {child.pid for child in stack.processes() if "worker" in child.cmdline()}

    before = workers()
    await tab.try_out("A long answer")
    await expect(tab.answers).to_contain_text("your message became")
    await tab.button("Kill the worker").click()
    await expect(tab.activity).to_contain_text("The answer pauses until its lease of 4 s has ended")
    await expect(tab.button("Kill the worker")).to_be_hidden()
    await expect(tab.note("resumed")).to_be_visible(timeout=FAR_SECONDS * 1000)
    await tab.has_answered("an alarm that always rings.")
    await expect(tab.answers).to_have_count(1)
    assert await tab.answers.inner_text() == LONG
    assert before - workers(), "one of them was killed"


async def test_a_dead_letter_is_told_with_its_reference_and_a_retry_answers_it(tab: Playground) -> None:
    await tab.try_out("A turn that fails")
    letter = tab.page.get_by_role("group", name="Dead letter")
    await expect(letter).to_contain_text("is not tried again by itself")
    await expect(letter).to_contain_text(re.compile(r"Reference evt_[a-z2-7]{26}"))
    await expect(letter).not_to_contain_text("scripted model")  # the error itself is for operators
    await tab.reload()
    await letter.get_by_role("button", name="Try again").click()
    await tab.has_answered(RETRIED)
    await expect(letter).to_have_count(0)
    await expect(tab.said).to_have_count(1)
    await tab.reload()
    await expect(tab.answers).to_have_text([RETRIED])


async def test_a_limit_shows_the_place_in_line_and_how_long_it_takes(tab: Playground) -> None:
    await tab.try_out("A place in line")
    await expect(tab.activity).to_contain_text(re.compile(r"Number \d in line, about \d+ s"))
    await expect(tab.page.get_by_role("progressbar")).to_be_visible()
    await tab.has_answered("word by word")


async def test_a_card_a_question_and_an_effect_come_back_through_the_queue(tab: Playground) -> None:
    await tab.say("Show me a form, please")
    await tab.has_answered("small form")
    await tab.button("Call me back").click()
    await tab.has_answered("Your click came back")
    await tab.say("Let me choose")
    await tab.page.get_by_label("Retries").check()
    await tab.is_quiet()
    await tab.button("Answer").click()
    await tab.has_answered("You chose: Retries")
    await tab.say("An effect with an outcome, please")
    await tab.has_answered("Your page says: shown.")
    await expect(tab.page.locator("#composer")).to_have_class("highlighted")
    await tab.say("I want a new session")
    await tab.has_answered("I have only seen the id.")
    log = "\n".join(await tab.log())
    assert "The page has a client secret of session ses_" in log
    assert "eyJ" not in log, "nor is any token"


async def test_all_of_it_can_be_done_with_the_keyboard(tab: Playground) -> None:
    page = tab.page
    await reached(page, "Skip to the message", "Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(tab.message).to_be_focused()
    await page.keyboard.type("Tell me at length")
    await page.keyboard.press("Enter")
    await expect(tab.answers).to_contain_text("Gladly")
    await reached(page, "stop", "Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(tab.note("stopped")).to_be_visible()
    await tab.is_quiet()
    await expect(tab.message).to_be_focused()
    await reached(page, "A card", "Shift+Tab")
    await page.keyboard.press("Enter")
    await tab.has_answered("small form")
    await reached(page, "Call me back", "Shift+Tab")
    await page.keyboard.press("Space")
    await tab.has_answered("Your click came back")


async def reached(page: Page, name: str, key: str) -> None:
    """Press a key until the focus is there."""
    for _ in range(30):
        if await page.evaluate(FOCUSED) == name:
            return
        await page.keyboard.press(key)
    raise AssertionError(f"{name} is not reached by {key}")


async def test_on_a_phone_the_conversations_open_and_close_with_the_keyboard(
    stack: Up, shared_browser: Browser
) -> None:
    phone = {"width": 360, "height": 740}
    async with playground(shared_browser, stack.addresses["gateway"], viewport=phone) as tab:
        menu = tab.button("Conversations")
        await expect(tab.button("New conversation")).to_be_hidden()
        await menu.press("Enter")
        await expect(tab.button("New conversation")).to_be_focused()
        await expect(menu).to_have_attribute("aria-expanded", "true")
        await tab.page.keyboard.press("Escape")
        await expect(menu).to_be_focused()
        await expect(tab.button("New conversation")).to_be_hidden()
        await tab.say("Where is order 1042?")
        await tab.has_answered("shipped")
        assert await tab.page.evaluate("document.documentElement.scrollWidth") <= phone["width"]


@pytest.fixture(scope="module")
def axe(pytestconfig: pytest.Config) -> str:
    """The checker, as a script."""
    folder = npm_packages(pytestconfig, "axe", (AXE,))
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_stands_in_the_way_of_those_who_see_hear_or_move_otherwise(
    stack: Up, shared_browser: Browser, axe: str, scheme: str
) -> None:
    options = {"color_scheme": scheme, "reduced_motion": "reduce"}
    async with playground(shared_browser, stack.addresses["gateway"], **options) as tab:
        await tab.page.evaluate(axe)
        assert await tab.page.evaluate(BREACHES) == []
        await tab.say("Let me choose")
        await expect(tab.button("Answer")).to_be_visible()
        await tab.say("Please fail on purpose")
        await expect(tab.button("Try again")).to_be_visible()
        await tab.say("Tell me at length")
        await expect(tab.answers.last).to_contain_text("Gladly")
        assert await tab.page.evaluate(BREACHES) == []
        assert await tab.page.evaluate("document.getAnimations().length") == 0
        await expect(tab.page.locator("#said")).to_have_text(re.compile("Answering|Waiting"))
        await tab.button("Stop").click()
        await expect(tab.note("stopped")).to_be_visible()
        await expect(tab.page.locator("#said")).to_contain_text("Stopped")
        assert await tab.page.evaluate(BREACHES) == []
