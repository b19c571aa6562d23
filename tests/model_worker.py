"""The real worker app with a model inside its process: `celery -A tests.model_worker worker`."""

import os
from datetime import timedelta

from agents import Model

from workers import runtime
from workers.settings import Settings
from workers.testing.model import DeltaModel


def build_delta_model(_: Settings, *__: object, **___: object) -> Model:
    delay = timedelta(milliseconds=int(os.environ.get("TEST_DELTA_MS", "0")))
    return DeltaModel(int(os.environ.get("TEST_DELTAS", "20")), delay=delay)


# The composition root takes its model from this name; everything else is as it ships.
runtime.build_model = build_delta_model  # type: ignore[attr-defined,assignment]  # a double

from workers.app import app  # noqa: E402  # only now: it builds the app that uses the above

__all__ = ["app"]
