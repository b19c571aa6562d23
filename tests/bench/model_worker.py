"""The real worker app with a model that lives in its process: `celery -A tests.bench.model_worker worker`.

`BENCH_DELTAS` is how many deltas it says. A message that holds "slow please" gets `BENCH_SLOW_DELTAS` of them instead,
`BENCH_SLOW_SECONDS` apart.
"""

import os
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from agents import Model, ModelResponse
from agents.items import TResponseInputItem, TResponseStreamEvent

from workers.agents import models
from workers.settings import Settings
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


def build_two_pace_model(_: Settings) -> Model:
    return TwoPaceModel()


# The composition root imports this name, so it is changed before; the worker that is measured is otherwise as it ships.
patch.object(models, "build_model", build_two_pace_model).start()

from workers.app import app  # noqa: E402  # only now, see above

__all__ = ["app"]
