"""compose.yaml: what the specification takes, and what the program takes of it."""

import re
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from tests.deploy.reading import DEPLOY, VARIABLES, documents, example, settings_of, text_of

FILES = ["compose.yaml", "compose.rabbitmq.yaml"]
OURS = {"db", "gateway", "worker", "flower"}
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::[-?]([^}]*))?\}")
FILLED = example("env.example") | {
    "CHATKIT_SIGNING_KEYS": '{"k1": "' + "A" * 43 + '="}',
    "OPENAI_API_KEY": "",
    "SENTRY_DSN": "",
    "CHATKIT_OTLP_ENDPOINT": "",
}


def filled(path: str) -> Any:
    """A file as `docker compose` reads it, with the variables of env.example."""

    def fill(value: Any) -> Any:
        match value:
            case dict():
                return {key: fill(inner) for key, inner in value.items()}
            case list():
                return [fill(inner) for inner in value]
            case str():
                return VARIABLE.sub(lambda found: FILLED.get(found[1], found[2] or ""), value)
            case _:
                return value

    [document] = documents(path)
    return fill(document)


def services() -> dict[str, Any]:
    found: dict[str, Any] = filled("compose.yaml")["services"]
    return found


@pytest.mark.parametrize("path", FILES)
def test_the_specification_takes_it(path: str) -> None:
    content = filled(path)
    compose = PyCompose.from_yaml(yaml.safe_dump(content, sort_keys=False))
    assert set(compose.service_names()) == set(content["services"])


def test_what_the_specification_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="restrat"):
        PyCompose.from_yaml("services: {redis: {image: 'redis:7.4', restrat: always}}")


@pytest.mark.parametrize("path", FILES)
def test_images_have_a_version(path: str) -> None:
    for name, service in filled(path)["services"].items():
        if "image" in service:
            assert re.fullmatch(r"[a-z/-]+:v?\d[\w.-]*", service["image"]), name


def test_every_variable_is_in_the_example_and_secrets_have_no_default() -> None:
    for path in FILES:
        for name, default in VARIABLE.findall(text_of(path)):
            assert name in FILLED, name
            if name.endswith(("PASSWORD", "KEYS", "AUTH")):
                assert default == "see env.example", name


@pytest.mark.parametrize("extra", [[], ["compose.rabbitmq.yaml"]], ids=["redis", "rabbitmq"])
@pytest.mark.parametrize("name", sorted(OURS))
def test_the_program_takes_the_settings_of_each_service(
    name: str, extra: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = dict(services()[name]["environment"])
    for path in extra:
        given |= filled(path)["services"].get(name, {}).get("environment", {})
    assert {variable for variable in given if not variable.startswith("FLOWER_")} <= VARIABLES
    settings = settings_of(given, monkeypatch)
    assert settings.public_url == "https://localhost"
    assert settings.broker_url.startswith("amqp://" if extra and name != "db" else "redis://")


def test_the_programs_run_without_rights_and_are_given_the_time_that_they_need_to_end() -> None:
    for name in OURS:
        service = services()[name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    worker = services()["worker"]
    drain = float(worker["environment"]["CHATKIT_DRAIN_SECONDS"])
    assert float(worker["stop_grace_period"].removesuffix("s")) >= drain + 10


def test_redis_keeps_what_it_has_acknowledged_and_throws_nothing_out() -> None:
    command = services()["redis"]["command"]
    for words in ("--appendonly yes", "--appendfsync everysec", "--maxmemory-policy noeviction"):
        assert words in command
    assert "redis:/data" in services()["redis"]["volumes"]


def test_stores_are_reached_from_inside_alone() -> None:
    content = filled("compose.yaml")
    assert content["networks"]["inside"] == {"internal": True}
    for store in ("redis", "postgres"):
        assert content["services"][store]["networks"] == ["inside"]
        assert "ports" not in content["services"][store]
    published = [port for service in content["services"].values() for port in service.get("ports", [])]
    assert {port for port in published if not port.startswith("127.0.0.1:")} == {"80:80", "443:443", "443:443/udp"}


def test_files_that_are_mounted_are_there() -> None:
    for service in services().values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), source
