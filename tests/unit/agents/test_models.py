"""Which model the settings give."""

import logging

import pytest

from workers.agents.models import ProviderModel, build_model
from workers.agents.scripted import ScriptedModel
from workers.settings import Settings


async def test_without_key_and_server_the_scripted_model_answers_with_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with caplog.at_level(logging.WARNING):
        model = build_model(Settings())
    assert isinstance(model, ScriptedModel)
    assert len(caplog.records) == 1
    assert "OPENAI_API_KEY" in caplog.text
    await model.close()


async def test_the_provider_model_never_retries_by_itself_and_has_time_outs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    model = build_model(Settings(model="gpt-4.1"))
    assert isinstance(model, ProviderModel)
    client = model._owned_client
    assert client.max_retries == 0
    assert client.timeout == client._client.timeout
    assert "sk-secret" not in repr(model)
    await model.close()
    assert client.is_closed()
