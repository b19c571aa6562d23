"""`up`, without its children."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from workers.cli.command import Output
from workers.cli.main import run
from workers.embedded import Stack


def test_a_signal_between_the_addresses_and_the_watch_ends_it_as_any_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever has read the addresses may stop it at once: SIGTERM then comes before anything is watched."""

    @contextmanager
    def running(stack: Stack) -> Iterator[Stack]:
        yield stack

    said: list[str] = []

    def note(_: Output, text: str) -> None:
        said.append(text)
        if text == "Ctrl-C stops it":
            raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Stack, "running", running)
    monkeypatch.setattr(Output, "note", note)
    assert run(["up"]) == 0
    assert said[-1] == "stopping …"
    assert "playground" in capsys.readouterr().out
