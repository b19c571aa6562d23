"""README and runbook: commands that there are, settings that there are, links that lead somewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.deploy.reading import DEPLOY, ROOT, VARIABLES, text_of
from workers.cli.main import cli

DOCUMENTS = ["README.md", "runbook.md"]
NOT_TEXT = {".png"}
OF_COMPOSE = {"CHATKIT_SITE", "CHATKIT_VERSION"}
COMMAND = re.compile(r"chatkit-workers +([a-z][^`\n]*)")
NAMED = re.compile(r"\b(?:CHATKIT_[A-Z_]+[A-Z]|OPENAI_[A-Z_]+|SENTRY_[A-Z]+)\b")
LINK = re.compile(r"\]\(([^)\s]+)\)")
TEXTS = [path for path in sorted(DEPLOY.rglob("*")) if path.is_file() and path.suffix not in NOT_TEXT]


def spans(text: str) -> Iterator[str]:
    """What is set as code: lines of blocks, and spans."""
    for number, part in enumerate(text.split("```")):
        yield from part.splitlines() if number % 2 else re.findall(r"`([^`]+)`", part.replace("\n", " "))


def commands(path: str) -> list[list[str]]:
    """The command lines that a document names, without the program's name."""
    found = [COMMAND.search(re.sub(r"\s+#.*", "", span)) for span in spans(text_of(path))]
    return [shlex.split(one[1].replace("…", "x")) for one in found if one]


def unknown_of(words: list[str]) -> list[str]:
    """What of a command line the program does not know."""
    node: click.Command = cli
    while isinstance(node, click.Group) and words and not words[0].startswith("-"):
        with click.Context(node) as ctx:
            found = node.get_command(ctx, words[0])
        if found is None:
            return words[:1]
        node, words = found, words[1:]
    if node.context_settings.get("ignore_unknown_options"):
        return []
    known = {option for parameter in node.params for option in parameter.opts}
    return [word for word in words if word.startswith("-") and word not in known]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_command_that_is_named_exists_with_its_options(path: str) -> None:
    found = commands(path)
    assert len(found) > 10
    assert [words for words in found if unknown_of(list(words))] == []


def test_a_command_that_is_not_there_would_be_seen() -> None:
    assert unknown_of(["lanes", "mend"]) == ["mend"]
    assert unknown_of(["pause", "--tenants", "acme"]) == ["--tenants"]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_setting_that_is_named_exists(path: Path) -> None:
    named = set(NAMED.findall(path.read_text(encoding="utf-8")))
    assert named <= VARIABLES | OF_COMPOSE


@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_lead_somewhere(path: str) -> None:
    for link in LINK.findall(text_of(path)):
        file, _, anchor = link.partition("#")
        target = DEPLOY / file if file else DEPLOY / path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", DOCUMENTS)
def test_files_that_are_named_are_there(path: str) -> None:
    for name in re.findall(
        r"`((?:deploy|tests|base|kubernetes|systemd|prometheus|grafana)/[\w./@*-]+)`", text_of(path)
    ):
        roots = (ROOT, DEPLOY, DEPLOY / "kubernetes")
        assert any(list(root.glob(name.rstrip("/"))) for root in roots), name


def test_no_file_holds_the_address_of_a_package_index() -> None:
    for path in TEXTS:
        assert not re.search(r"index-url|pypi|simple/", path.read_text(encoding="utf-8"), re.IGNORECASE), path


def anchors(path: Path) -> set[str]:
    """The anchors of a document, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
