"""The real worker app with a model inside its process: `celery -A tests.model_worker worker`."""

import logging
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

from agents import Model

from workers import quarantine, runtime
from workers.agents.replies import Answer
from workers.errors import RateLimitedError
from workers.lanes.sweeper import Sweeper
from workers.settings import Settings
from workers.testing.model import DeltaModel


class TouchyModel(DeltaModel):
    """Dies of one word, and takes its process with it; trips over another, logs an error at a third, and at a fourth is
    refused every other time."""

    def _answer(self, input_: Any) -> Answer:
        if "moody" in str(input_):
            in_another_mood()
        if "poison" in str(input_):
            os.kill(os.getpid(), signal.SIGKILL)
        if "stumble" in str(input_):
            raise KeyError("a bug of the program")
        if "grumble" in str(input_):
            logging.getLogger("tests").error("grumbled")
        return super()._answer(input_)


def in_another_mood() -> None:
    """Every other time, counted over all processes, the provider is to blame."""
    with Path(os.environ["TEST_MOODS"]).open("ab") as moods:
        moods.write(b".")
        moods.flush()
        if moods.tell() % 2:
            raise RateLimitedError("HTTP 429", retry_after=timedelta(seconds=0.2))


def build_delta_model(_: Settings, *__: object, **___: object) -> Model:
    delay = timedelta(milliseconds=int(os.environ.get("TEST_DELTA_MS", "0")))
    return TouchyModel(int(os.environ.get("TEST_DELTAS", "20")), delay=delay)


# The composition root takes its model from this name; everything else is as it ships.
quarantine.MODULE = "tests.quarantined"
runtime.build_model = build_delta_model  # type: ignore[attr-defined,assignment]  # a double

if os.environ.get("TEST_BROKEN_LOOP"):

    async def broken(_: Sweeper) -> None:
        raise KeyError("a bug of the sweeper")

    Sweeper.sweep = broken  # type: ignore[method-assign,assignment]  # a double

from workers.app import app  # noqa: E402  # only now: it builds the app that uses the above

__all__ = ["app"]
