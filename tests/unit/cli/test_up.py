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


def test_a_folder_that_cannot_be_made_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".chatkit").touch()
    monkeypatch.chdir(tmp_path)
    assert run(["up"]) == 1
    assert f"error: {tmp_path / '.chatkit'} cannot be written (File exists): " in capsys.readouterr().err
