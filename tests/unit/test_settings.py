import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from schemas.double_text import DoubleText
from workers.errors import SettingsError
from workers.setting_types import DEBOUNCE_FORM, DOUBLE_TEXT_FORM, Limits, UserLimits
from workers.settings import DOMAINS_FORM, Settings, load_settings, masked_url, unknown_variables, variable_of
from workers.transport import HTTPS_FORM


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without any setting."""
    for field in Settings.model_fields:
        monkeypatch.delenv(variable_of(field), raising=False)
    return monkeypatch


def refusal(environment: pytest.MonkeyPatch, variables: Mapping[str, str]) -> str:
    for name, value in variables.items():
        environment.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value)


NO_FILE = "No such file or directory"


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("CHATKIT_BROKER_URL", "http://h", '"http://…" is not accepted: use redis://, rediss://, amqp:// or amqps://'),
        (
            "CHATKIT_STATE_URL",
            "localhost",
            "a value without a scheme is not accepted: use redis://, rediss://, redis+cluster:// or rediss+cluster://",
        ),
        (
            "CHATKIT_DATABASE_URL",
            "postgresql://h/x",
            '"postgresql://…" is not accepted: use sqlite+aiosqlite:///FILE or postgresql+asyncpg://USER@HOST/NAME',
        ),
        ("CHATKIT_MAX_ATTEMPTS", "many", '"many" is not accepted: use a whole number from 1 up to 100'),
        ("CHATKIT_MAX_ATTEMPTS", "0", '"0" is not accepted: use a whole number from 1 up to 100'),
        ("CHATKIT_BACKOFF_BASE", "0", '"0" is not accepted: use a number above 0 up to 3600'),
        ("CHATKIT_LEASE_TTL", "nan", '"nan" is not accepted: use a number from 0.2 up to 600'),
        ("CHATKIT_SERVICES", "shop", '"shop" is not accepted: use module:name of what makes the services'),
        ("CHATKIT_LOG_LEVEL", "loud", '"loud" is not accepted: use DEBUG, INFO, WARNING or ERROR'),
        ("CHATKIT_PLAYGROUND", "perhaps", '"perhaps" is not accepted: use 1 or 0, true or false'),
        *[
            (variable, value, f"outside of this machine only HTTPS is taken: use {HTTPS_FORM}{more}")
            for variable, value, more in [
                ("OPENAI_BASE_URL", "http://models.internal:8000/v1", ""),
                ("OPENAI_BASE_URL", "http://127.0.0.1.evil.example/v1", ""),
                ("SENTRY_DSN", "http://key@sentry.internal/1", ""),
                ("CHATKIT_OTLP_ENDPOINT", "http://collector.internal:4318", ""),
                ("CHATKIT_PUBLIC_URL", "http://chat.example", ", without a path"),
            ]
        ],
        (
            "CHATKIT_DOUBLE_TEXT",
            "queue",
            f"neither a JSON object nor a readable file ({NO_FILE}): use {DOUBLE_TEXT_FORM}",
        ),
        (
            "CHATKIT_DOUBLE_TEXT",
            '{"threads.create": "steer"}',
            (
                '"threads.create" is no turn that may meet another; those are threads.add_client_tool_output, '
                "threads.add_structured_input, threads.add_user_message, threads.custom_action, "
                f"threads.retry_after_item and *: use {DOUBLE_TEXT_FORM}"
            ),
        ),
        ("CHATKIT_IMAGE_DOMAINS", "https://x", f'"https://x" is not accepted: use {DOMAINS_FORM}'),
        (
            "CHATKIT_LIMITS",
            "/no/such/file",
            (
                "neither a JSON object nor a readable file (No such file or directory): "
                'use {"models": {"gpt-4.1": {"rpm": 1200, "tpm": 2000000, "concurrency": 50}, "*": {…}}, "tenants": '
                '{"acme": {"weight": 3, "rpm": 600}, "*": {…}}, "users": {"*": {"rpm": 60}}}, or the path of a file '
                "that holds it"
            ),
        ),
    ],
)
def test_a_wrong_value_gives_one_line_with_the_variable_the_fault_and_what_is_accepted(
    environment: pytest.MonkeyPatch, variable: str, value: str, line: str
) -> None:
    said = refusal(environment, {variable: value})
    assert said == f"{variable}: {line}"


def test_the_most_workers_are_no_fewer_than_the_least(environment: pytest.MonkeyPatch) -> None:
    said = refusal(environment, {"CHATKIT_SCALE_MIN": "11"})
    accepted = "use a whole number from 1 up to 10000"
    assert said == f"CHATKIT_SCALE_MAX: 10 is less than CHATKIT_SCALE_MIN, which is 11: {accepted}"


def test_each_wrong_variable_gets_a_line(environment: pytest.MonkeyPatch) -> None:
    said = refusal(environment, {"CHATKIT_SHARDS": "0", "CHATKIT_PREFIX": "a b"})
    assert [line.partition(":")[0] for line in said.splitlines()] == ["CHATKIT_SHARDS", "CHATKIT_PREFIX"]


def test_a_wrong_field_inside_a_json_setting_is_named(environment: pytest.MonkeyPatch) -> None:
    said = refusal(environment, {"CHATKIT_EVENT_FILTER": '{"alow": {}}'})
    assert said.startswith("CHATKIT_EVENT_FILTER: alow: extra inputs are not permitted: use {")


def test_a_password_in_a_wrong_url_is_not_repeated(environment: pytest.MonkeyPatch) -> None:
    for value in ("http://user:hunter2@host/0", "user:hunter2@host"):
        assert "hunter2" not in refusal(environment, {"CHATKIT_BROKER_URL": value})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CHATKIT_BROKER_URL", "amqp://guest:hunter2@host:port//"),
        ("CHATKIT_STATE_URL", "redis://:hunter2/3@host:6379/0"),
        ("CHATKIT_STATE_URL", "redis://host:70000/0"),
        ("CHATKIT_STATE_URL", "redis://[::1/0"),
        ("CHATKIT_DATABASE_URL", "postgresql+asyncpg://user:hunter2@host:port/chatkit"),
    ],
)
def test_a_url_whose_host_or_port_cannot_be_read_names_its_variable(
    environment: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    said = refusal(environment, {variable: value})
    assert said.startswith(f"{variable}: its host and port cannot be read ")
    assert "hunter2" not in said


def test_a_long_wrong_value_is_cut(environment: pytest.MonkeyPatch) -> None:
    assert len(refusal(environment, {"CHATKIT_SHARDS": "9" * 5000})) < 200


def test_an_empty_variable_counts_as_unset(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CHATKIT_SHARDS", "")
    environment.setenv("OPENAI_API_KEY", "")
    settings = load_settings()
    assert settings.shards == 8
    assert settings.scripted


def test_double_texting_is_one_mode_for_all_or_one_for_each_type(environment: pytest.MonkeyPatch) -> None:
    assert load_settings().double_text == {"*": DoubleText.ENQUEUE}
    environment.setenv("CHATKIT_DOUBLE_TEXT", "interrupt")
    assert load_settings().double_text == {"*": DoubleText.INTERRUPT}
    environment.setenv("CHATKIT_DOUBLE_TEXT", '{"threads.add_user_message": "steer", "*": "reject"}')
    assert load_settings().double_text == {
        "chatkit.threads.add_user_message": DoubleText.STEER,
        "*": DoubleText.REJECT,
    }


def test_the_quiet_time_is_one_for_all_messages_or_one_for_each_type(environment: pytest.MonkeyPatch) -> None:
    assert load_settings().debounce == {"*": 0}
    environment.setenv("CHATKIT_DEBOUNCE", "1.5")
    assert load_settings().debounce == {"*": 1.5}
    environment.setenv("CHATKIT_DEBOUNCE", '{"threads.add_user_message": 2}')
    assert load_settings().debounce == {"chatkit.threads.add_user_message": 2}


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("61", "*: input should be less than or equal to 60"),
        ("-1", "*: input should be greater than or equal to 0"),
        ("soon", f"neither a JSON object nor a readable file ({NO_FILE})"),
        (
            '{"items.feedback": 1}',
            '"items.feedback" is no message; those are threads.add_user_message, threads.create and *',
        ),
    ],
)
def test_a_wrong_quiet_time_is_told_with_what_is_taken(environment: pytest.MonkeyPatch, value: str, wrong: str) -> None:
    environment.setenv("CHATKIT_DEBOUNCE", value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value) == f"CHATKIT_DEBOUNCE: {wrong}: use {DEBOUNCE_FORM}"


def test_limits_come_from_json_or_from_a_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("CHATKIT_LIMITS", '{"users": {"*": {"rpm": 60}}}')
    from_json = load_settings().limits
    (tmp_path / "limits.json").write_text('{"users": {"*": {"rpm": 60}}}')
    environment.setenv("CHATKIT_LIMITS", str(tmp_path / "limits.json"))
    assert load_settings().limits == from_json == Limits(users={"*": UserLimits(rpm=60)})


def test_service_keys_are_separated_by_commas_and_never_shown(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CHATKIT_API_KEYS", "k-one, k-two,,")
    settings = load_settings()
    assert settings.service_keys == {"k-one", "k-two"}
    assert "k-one" not in repr(settings)


def test_an_unknown_variable_is_told_with_the_nearest_known_one() -> None:
    assert unknown_variables(["CHATKIT_BROKR_URL", "CHATKIT_SHARDS", "PATH"]) == [
        "CHATKIT_BROKR_URL is no setting and does nothing; did you mean CHATKIT_BROKER_URL?"
    ]
    assert "`chatkit-workers config` lists them" in unknown_variables(["CHATKIT_XXXXXXXXXXXX"])[0]


def test_an_unknown_variable_warns_once(environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    environment.setenv("CHATKIT_SHRADS", "4")
    with caplog.at_level(logging.WARNING):
        load_settings()
        load_settings()
    assert caplog.messages == ["CHATKIT_SHRADS is no setting and does nothing; did you mean CHATKIT_SHARDS?"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:hunter2@host/0", "redis://:********@host/0"),
        ("amqp://user:hunter2@host//", "amqp://user:********@host//"),
        ("redis://host/0?password=hunter2", "redis://host/0?********"),
        ("sqlite+aiosqlite:///chatkit.db", "sqlite+aiosqlite:///chatkit.db"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert masked_url(url) == shown


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9000/v1", "http://localhost/v1", "http://[::1]:1/v1", "https://x.example/v1"]
)
def test_plain_http_is_for_this_machine(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("OPENAI_BASE_URL", url)
    assert load_settings().openai_base_url == url


def test_an_endpoint_without_the_packages_of_its_extra_stops_the_start_by_naming_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert load_settings().otlp_endpoint == "http://127.0.0.1:4318"
    monkeypatch.setattr("workers.settings.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"^CHATKIT_OTLP_ENDPOINT: the extra `otel` is not installed .*\[otel\]"):
        load_settings()
