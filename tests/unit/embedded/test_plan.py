from pathlib import Path

import pytest
from pydantic import SecretStr

from workers.embedded import Plan
from workers.sessions.keys import KeyRing
from workers.settings import Settings


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(tmp_path, port=8000, flower_port=5555, redis_port=6400)


def test_the_children_get_the_stacks_own_redis_and_database(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_BROKER_URL", "amqp://elsewhere//")
    monkeypatch.setenv("CHATKIT_STATE_URL", "redis://elsewhere/0")
    monkeypatch.setenv("CHATKIT_DATABASE_URL", "postgresql+asyncpg://elsewhere/x")
    environment = plan.environment()
    assert environment["CHATKIT_BROKER_URL"] == environment["CHATKIT_STATE_URL"] == "redis://127.0.0.1:6400/0"
    assert environment["CHATKIT_DATABASE_URL"] == f"sqlite+aiosqlite:///{plan.folder / 'chatkit.db'}"


def test_other_settings_of_the_caller_are_kept(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_MODEL", "my-model")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    environment = plan.environment()
    assert (environment["CHATKIT_MODEL"], environment["OPENAI_API_KEY"]) == ("my-model", "sk-test")


def test_a_scripted_stack_has_no_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    environment = Plan(tmp_path, port=8000, flower_port=5555, scripted=True).environment()
    assert not {"OPENAI_API_KEY", "OPENAI_BASE_URL"} & environment.keys()


def test_keys_are_made_unless_the_caller_has_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CHATKIT_API_KEYS", "CHATKIT_SECRET_KEY", "CHATKIT_SIGNING_KEYS"):
        monkeypatch.delenv(variable, raising=False)
    first, other = (Plan(tmp_path, port=8000, flower_port=5555) for _ in range(2))
    assert first.service_key != other.service_key
    assert first.environment()["CHATKIT_API_KEYS"] == first.service_key
    made = [plan.environment()["CHATKIT_SIGNING_KEYS"] for plan in (first, other)]
    assert made[0] != made[1]
    assert KeyRing.from_settings(Settings(signing_keys=SecretStr(made[0]))).signing.algorithm == "EdDSA"
    monkeypatch.setenv("CHATKIT_API_KEYS", "mine,other")
    monkeypatch.setenv("CHATKIT_SECRET_KEY", "s" * 40)
    assert "CHATKIT_SIGNING_KEYS" not in first.environment()
    assert Plan(tmp_path, port=8000, flower_port=5555).service_key == "mine"


def test_the_environment_makes_valid_settings(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in plan.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings().service_keys == {plan.service_key}


def test_a_scripted_stack_has_a_model_that_makes_one_wait_unless_models_or_limits_are_set(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "CHATKIT_MODEL", "CHATKIT_ALLOWED_MODELS", "CHATKIT_LIMITS"):
        monkeypatch.delenv(variable, raising=False)
    assert plan.environment()["CHATKIT_ALLOWED_MODELS"] == "gpt-4.1,narrow"
    for variable in ("OPENAI_API_KEY", "CHATKIT_MODEL", "CHATKIT_LIMITS"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "mine")
            assert "CHATKIT_ALLOWED_MODELS" not in plan.environment(), variable
