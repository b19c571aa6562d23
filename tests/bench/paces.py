"""A model of two paces: fast, or slow for those who ask for it.

`BENCH_DELTAS` is how many deltas it says. A message that holds "slow please" gets `BENCH_SLOW_DELTAS` of them instead,
`BENCH_SLOW_SECONDS` apart.
"""

import os
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from agents import Model, ModelResponse
from agents.items import TResponseInputItem, TResponseStreamEvent

from workers.testing.model import DeltaModel

SLOW_WORD = "slow please"

Input = str | list[TResponseInputItem]


class TwoPaceModel(Model):
    """Fast, or slow for those who ask for it."""

    def __init__(self) -> None:
        self._fast = DeltaModel(int(os.environ.get("BENCH_DELTAS", "20")))
        pause = timedelta(seconds=float(os.environ.get("BENCH_SLOW_SECONDS", "0.05")))
        self._slow = DeltaModel(int(os.environ.get("BENCH_SLOW_DELTAS", "1000")), delay=pause)

    async def get_response(
        self,
        system_instructions: str | None,
        input: Input,  # noqa: A002  # the SDK's name
        *rest: Any,
        **named: Any,
    ) -> ModelResponse:
        return await self._for(input).get_response(system_instructions, input, *rest, **named)

    def stream_response(
        self,
        system_instructions: str | None,
        input: Input,  # noqa: A002  # the SDK's name
        *rest: Any,
        **named: Any,
    ) -> AsyncIterator[TResponseStreamEvent]:
        return self._for(input).stream_response(system_instructions, input, *rest, **named)

    def _for(self, input_: Input) -> DeltaModel:
        last = input_ if isinstance(input_, str) else str(input_[-1])
        return self._slow if SLOW_WORD in last else self._fast
