"""The Dockerfile: hadolint finds nothing, and what it does not ask for holds as well."""

import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

from dockerfile_parse import DockerfileParser

from tests.deploy.reading import DEPLOY, ROOT, text_of

HADOLINT = Path(sys.executable).parent / "hadolint"
TAGGED = re.compile(r"[a-z0-9./-]+:\d[\w.-]*")
INDEX = re.compile(r"index-url|extra-index|find-links|trusted-host|://", re.IGNORECASE)


def stages() -> list[list[dict[str, str]]]:
    """The instructions of each stage."""
    found: list[list[dict[str, str]]] = []
    content = BytesIO((DEPLOY / "Dockerfile").read_bytes())
    for instruction in DockerfileParser(fileobj=content).structure:
        if instruction["instruction"] == "FROM":
            found.append([])
        if instruction["instruction"] != "COMMENT":
            found[-1].append(instruction)
    return found


def test_hadolint_finds_nothing() -> None:
    checked = subprocess.run(
        [HADOLINT, "--no-color", DEPLOY / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_it_has_two_stages_from_images_with_a_version() -> None:
    _, *rest = all_stages = stages()
    assert len(rest) == 1
    for stage in all_stages:
        assert TAGGED.fullmatch(stage[0]["value"].split()[0])


def test_the_image_runs_as_nobody_in_particular_and_has_a_health_check() -> None:
    last = {instruction["instruction"]: instruction["value"] for instruction in stages()[-1]}
    user, _, group = last["USER"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert "/healthz" in last["HEALTHCHECK"]
    assert last["ENTRYPOINT"] == '["chatkit-workers"]'


def test_nothing_is_fetched_from_an_address_and_nothing_is_built_in_the_last_stage() -> None:
    for stage in stages():
        for instruction in stage:
            assert instruction["instruction"] != "ADD"
            if instruction["instruction"] == "RUN":
                assert not INDEX.search(instruction["value"])
    assert not any("pip" in one["value"] for one in stages()[-1] if one["instruction"] == "RUN")


def test_what_is_copied_is_there_and_all_that_the_package_needs() -> None:
    copied = {
        name
        for instruction in stages()[0]
        if instruction["instruction"] == "COPY"
        for name in instruction["value"].split()[:-1]
    }
    assert copied == {"pyproject.toml", "README.md", "LICENSE", "schemas", "workers"}
    assert all((ROOT / name).exists() for name in copied)
    let_in = {line.removeprefix("!") for line in text_of("Dockerfile.dockerignore").splitlines() if line[:1] == "!"}
    assert let_in == copied
