"""Models for tests and benchmarks: no provider, no clock, and failures on demand.

They are models of the Agents SDK: give one to `workers.agents.team.build_team`, or to agents of your own.
"""

from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import timedelta
from typing import Any

from agents import Model, ModelResponse
from agents.items import TResponseInputItem, TResponseStreamEvent

from workers.agents.replies import Answer, Call, Reply, Say, words

__all__ = ["Call", "DeltaModel", "Reply", "Say", "StepModel", "words"]

Input = str | list[TResponseInputItem]


class DeltaModel(Model):
    """Says the same message to everything, in a given number of deltas.

    Args:
        deltas: how many pieces of text.
        delay: pause before each piece. With zero the loop still gets its turn at each, as it does with a real stream.
        piece: the text of one delta.
    """

    def __init__(self, deltas: int = 50, *, delay: timedelta = timedelta(0), piece: str = "word ") -> None:
        self.calls = 0
        self._reply = Say((piece,) * deltas)
        self._delay_seconds = delay.total_seconds()

    @property
    def text(self) -> str:
        """What it says."""
        return self._reply.text

    async def get_response(
        self,
        system_instructions: str | None,
        input: Input,  # noqa: A002  # the SDK's name
        *_: Any,
        **__: Any,
    ) -> ModelResponse:
        return self._answer(input).model_response()

    def stream_response(
        self,
        system_instructions: str | None,
        input: Input,  # noqa: A002  # the SDK's name
        *_: Any,
        **__: Any,
    ) -> AsyncIterator[TResponseStreamEvent]:
        return self._answer(input).stream(self._delay_seconds)

    def _answer(self, input_: Input) -> Answer:
        self.calls += 1
        return Answer.to(input_, [self._reply], model="deltas", instructions=None)


class StepModel(Model):
    """Plays its steps, one per call: replies to give, or an exception to raise.

    Args:
        steps: each a reply, the replies of one response, or an exception.
        cut_after: how many deltas of an unfinished message are streamed before an exception is raised.

    Raises:
        AssertionError: called more often than there are steps.
    """

    def __init__(self, *steps: Reply | Sequence[Reply] | Exception, cut_after: int = 0) -> None:
        self.inputs: list[Input] = []
        self._steps = deque(steps)
        self._cut_after = cut_after

    @property
    def calls(self) -> int:
        return len(self.inputs)

    async def get_response(
        self,
        system_instructions: str | None,
        input: Input,  # noqa: A002  # the SDK's name
        *_: Any,
        **__: Any,
    ) -> ModelResponse:
        step = self._next(input)
        if isinstance(step, Exception):
            raise step
        return self._answer(input, step).model_response()

    async def stream_response(
        self,
        system_instructions: str | None,
        input: Input,  # noqa: A002  # the SDK's name
        *_: Any,
        **__: Any,
    ) -> AsyncIterator[TResponseStreamEvent]:
        step = self._next(input)
        if isinstance(step, Exception):
            # the pieces only: a stream that breaks off never ends its message
            async for event in self._answer(input, [Say(("cut ",) * self._cut_after)]).stream(0):
                if self._cut_after == 0 or event.type == "response.output_text.done":
                    break
                yield event
            raise step
        async for event in self._answer(input, step).stream(0):
            yield event

    def _next(self, input_: Input) -> Iterable[Reply] | Exception:
        self.inputs.append(input_)
        assert self._steps, f"call {self.calls} of a model that has one step less"  # noqa: S101  # a test double
        step = self._steps.popleft()
        return step if isinstance(step, Exception) else [step] if isinstance(step, Say | Call) else step

    @staticmethod
    def _answer(input_: Input, replies: Iterable[Reply]) -> Answer:
        return Answer.to(input_, replies, model="steps", instructions=None)
