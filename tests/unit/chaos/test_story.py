"""The story: whatever was called before, the words of an answer add up to its reference."""

from typing import Any

import pytest

from workers.chaos.every_chunk import WORDS, chunks
from workers.chaos.story import LOOK_UP, TRANSFER, CaseText, Kind, answer, history_of
from workers.testing.provider_steps import Status, Text, Tool


def body(case: CaseText, *called: str, tools: tuple[str, ...] = (TRANSFER, LOOK_UP)) -> dict[str, Any]:
    """A request for the next response."""
    calls = [{"type": "function_call", "name": name} for name in called]
    return {"input": [{"role": "user", "content": str(case)}, *calls], "tools": [{"name": name} for name in tools]}


@pytest.mark.parametrize("kind", [Kind.PLAIN, Kind.TOOL, Kind.FULL])
def test_the_words_of_all_responses_are_the_reference(kind: Kind) -> None:
    case = CaseText("t", kind, 20)
    text, called = "", list[str]()
    for _ in range(case.steps):
        step = answer(body(case, *called), mended=False)
        if isinstance(step, Tool):
            text += step.say
            called.append(step.name)
        else:
            assert isinstance(step, Text)
            text += step.text
    assert text == case.reference


def test_an_agent_that_cannot_hand_off_calls_the_tool_at_once() -> None:
    step = answer(body(CaseText("t", Kind.TOOL, 20), tools=(LOOK_UP,)), mended=False)
    assert isinstance(step, Tool)
    assert step.name == LOOK_UP


def test_a_flaw_is_refused_until_it_is_mended() -> None:
    case = CaseText("t", Kind.FLAW, 20)
    assert isinstance(answer(body(case), mended=False), Status)
    assert answer(body(case), mended=True) == Text(case.reference)


def test_a_text_says_which_case_it_is() -> None:
    case = CaseText("s1n2", Kind.TOOL, 20)
    assert CaseText.of(f"… {case}") == case
    assert CaseText.of("hello") is None


def test_the_history_is_what_users_and_assistants_said() -> None:
    told = {
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "function_call", "name": "x"},
            {"role": "assistant", "content": "b"},
        ]
    }
    assert [(said.role, said.text) for said in history_of(told)] == [("user", "a"), ("assistant", "b")]


def test_an_answer_has_the_chunks_of_sixty_words_and_of_its_two_calls() -> None:
    assert chunks() > WORDS + 2 * 4
