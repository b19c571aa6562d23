"""`dead`: what it takes."""

from datetime import UTC, datetime, timedelta

import click
import pytest

from schemas.outcome import DeadReason
from workers.cli.dead import REASONS, Since
from workers.cli.main import run


def test_every_reason_can_be_asked_for() -> None:
    assert set(REASONS) == set(DeadReason)


@pytest.mark.parametrize(
    ("text", "age"), [("90m", timedelta(minutes=90)), ("2h", timedelta(hours=2)), ("7d", timedelta(days=7))]
)
def test_since_takes_an_age(text: str, age: timedelta) -> None:
    assert abs(datetime.now(UTC) - age - Since().convert(text, None, None)) < timedelta(seconds=5)


@pytest.mark.parametrize("text", ["2026-11-24T09:00:00Z", "2026-11-24 09:00", "2026-11-24T10:00:00+01:00"])
def test_since_takes_a_time(text: str) -> None:
    assert Since().convert(text, None, None) == datetime(2026, 11, 24, 9, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "3w", "-2h", "h", "9999999d", "99999999999999d", "9" * 5000 + "s"])
def test_since_refuses_anything_else_and_says_what_it_takes(text: str) -> None:
    with pytest.raises(click.BadParameter, match="90m, 2h or 7d"):
        Since().convert(text, None, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["dead", "purge"],
        ["dead", "redrive"],
        ["dead", "redrive", "evt_1", "--all"],
        ["dead", "purge", "evt_1", "--tenant", "acme"],
        ["dead", "list", "--reason", "none"],
        ["pause", "--type", "threads.creat"],
        ["pause", "--type", "threads.create", "--tenant", "acme"],
        ["pause", "--queue", "chatkit.events"],
        ["resume"],
        ["up", "--port", "5555"],
        ["pause", "--tenant", "a b"],
        ["publish", "--count", "1", "--rate", "nan"],
        ["publish", "--count", "1", "--timeout", "inf"],
        ["dead", "redrive", "--all", "--rate", "inf"],
        ["chaos", "--minutes", "nan"],
    ],
)
def test_a_command_that_could_mean_everything_or_nothing_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert "Error:" in capsys.readouterr().err
