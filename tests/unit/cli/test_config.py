import json

import pytest

from workers.cli.main import run
from workers.settings import Settings, variable_of


def config(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    assert run(["config", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {line["variable"]: line for line in lines}


def test_every_setting_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert config(capsys).keys() == {variable_of(field) for field in Settings.model_fields}


def test_value_default_and_source_are_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_MAX_ATTEMPTS", "7")
    monkeypatch.delenv("CHATKIT_SHARDS", raising=False)
    lines = config(capsys)
    line = {"variable": "CHATKIT_MAX_ATTEMPTS", "value": 7, "default": 5, "source": "environment"}
    assert lines["CHATKIT_MAX_ATTEMPTS"] == line
    assert lines["CHATKIT_SHARDS"]["source"] == "default"


def test_a_setting_that_is_an_object_is_shown_as_the_json_it_is_given_as(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("CHATKIT_DOUBLE_TEXT ")]
    assert line.split(maxsplit=2)[2] == '{"*": "enqueue"}'


def test_secrets_are_masked_everywhere(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_API_KEYS", "hunter2")
    monkeypatch.setenv("OPENAI_API_KEY", "hunter2")
    monkeypatch.setenv("CHATKIT_BROKER_URL", "amqp://user:hunter2@host//")
    for arguments in (["config"], ["config", "--json"]):
        assert run(arguments) == 0
        said = capsys.readouterr()
        assert "hunter2" not in said.out + said.err
        assert "amqp://user:********@host//" in said.out


def test_a_wrong_setting_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_SHARDS", "none")
    assert run(["config"]) == 1
    said = capsys.readouterr().err
    assert said == 'error: CHATKIT_SHARDS: "none" is not accepted: use a whole number from 1 up to 1024\n'
