"""A broker over TLS has to prove who it is."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fakeredis import FakeAsyncRedis
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.cli_process import cli, settings
from tests.services import RedisServer, free_port
from tests.unit.gateway.conftest import beat
from tests.unit.gateway.stage import stage_on
from tests.web_process import flower_process
from workers.broker import sending_app
from workers.gateway.health import readiness_of
from workers.settings import Settings

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that only its own file vouches for."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem"


@pytest.fixture(scope="module")
def tls_url(certificate: Path) -> Iterator[str]:
    port = free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", str(certificate)]
    options += ["--tls-cert-file", str(certificate), "--tls-key-file", str(certificate.with_name("key.pem"))]
    server = RedisServer(certificate.parent, *options).start()
    yield f"rediss://127.0.0.1:{port}/0"
    server.kill()


def ping(broker_url: str) -> bool:
    app = sending_app(Settings(broker_url=broker_url))
    with app.connection_for_write() as connection:
        return bool(connection.default_channel.client.ping())


def test_a_broker_whose_certificate_nobody_vouches_for_is_refused(tls_url: str) -> None:
    with pytest.raises((OperationalError, RedisConnectionError), match="certificate verify failed"):
        ping(tls_url)


def test_a_broker_that_a_named_authority_vouches_for_is_used(tls_url: str, certificate: Path) -> None:
    assert ping(f"{tls_url}?ssl_ca_certs={certificate}")


def test_naming_an_authority_still_checks_who_answers(tls_url: str, certificate: Path) -> None:
    other = tls_url.replace("127.0.0.1", "localhost")
    with pytest.raises((OperationalError, RedisConnectionError), match="certificate verify failed"):
        ping(f"{other}?ssl_ca_certs={certificate}")


async def test_readiness_trusts_no_other_broker_than_a_worker_does(tls_url: str, certificate: Path) -> None:
    parts = {}
    for url in (tls_url, f"{tls_url}?ssl_ca_certs={certificate}"):
        state = FakeAsyncRedis()
        async with stage_on(state, "ck", beat, broker_url=url) as stage:
            parts[url] = (await readiness_of(stage).parts())["broker"]
        await state.aclose()
    assert list(parts.values()) == ["OperationalError", "ok"]


async def test_flower_refuses_such_a_broker_in_one_line(tls_url: str, free_port: int) -> None:
    finished = await cli("flower", "--port", str(free_port), env=settings(broker_url=tls_url))
    assert finished.code == 1
    [line] = finished.err.splitlines()
    assert line.startswith(f"error: the broker at {tls_url} cannot be reached (its certificate is not trusted: self")


def test_flower_uses_a_broker_that_a_named_authority_vouches_for(tls_url: str, certificate: Path) -> None:
    url = f"{tls_url}?ssl_ca_certs={certificate}"
    with flower_process({"CHATKIT_BROKER_URL": url}) as flower:
        answer = httpx.get(f"{flower}/api/queues/length")
        assert answer.status_code == 200, answer.text
        assert {queue["messages"] for queue in answer.json()["active_queues"]} == {0}
