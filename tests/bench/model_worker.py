"""The real worker app with a model that lives in its process: `celery -A tests.bench.model_worker worker`."""

from unittest.mock import patch

from agents import Model

from tests.bench.paces import TwoPaceModel
from workers.agents import models
from workers.settings import Settings


def build_two_pace_model(_: Settings, *__: object, **___: object) -> Model:
    return TwoPaceModel()


# The composition root imports this name, so it is changed before; the worker that is measured is otherwise as it ships.
patch.object(models, "build_model", build_two_pace_model).start()

from workers.app import app  # noqa: E402  # only now, see above

__all__ = ["app"]
