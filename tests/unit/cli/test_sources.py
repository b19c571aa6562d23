from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from schemas.events import parse_event
from workers.cli.command import CommandFailedError
from workers.cli.sources import Line, batches, read_lines, repeat, sample


def test_each_line_of_a_file_is_an_event_and_keeps_its_place(tmp_path: Path) -> None:
    (tmp_path / "events.ndjson").write_text('{"id": "1"}\n\n  {"id": "2"}\n')
    lines = list(read_lines(str(tmp_path / "events.ndjson")))
    assert lines == [Line("line 1", b'{"id": "1"}'), Line("line 3", b'{"id": "2"}')]


def test_a_file_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CommandFailedError, match="No such file or directory"):
        list(read_lines(str(tmp_path / "nothing")))


@pytest.mark.parametrize("text", ['{\n  "id": "1"\n}\n', '[\n{"id": "1"}\n]\n'])
def test_a_document_on_many_lines_is_told_so_once(tmp_path: Path, text: str) -> None:
    (tmp_path / "event.json").write_text(text)
    with pytest.raises(CommandFailedError, match="give each event on one line"):
        list(read_lines(str(tmp_path / "event.json")))


def test_load_repeats_the_events_in_turn_with_new_ids() -> None:
    lines = list(repeat([Line("line 1", b'{"id": "a"}'), Line("line 2", b'{"id": "b"}')], 5))
    ids = [line.event["id"] for line in lines if isinstance(line.event, dict)]
    assert [id_[0] for id_ in ids] == ["a", "b", "a", "b", "a"]
    assert len(set(ids)) == 5


def test_two_load_runs_share_no_id() -> None:
    def once() -> set[str]:
        return {line.event["id"] for line in repeat([sample()], 10) if isinstance(line.event, dict)}

    assert once().isdisjoint(once())


def test_load_of_something_that_is_no_event_says_which_line() -> None:
    with pytest.raises(CommandFailedError, match="line 7: is not JSON"):
        list(repeat([Line("line 7", b"{")], 2))


def test_the_sample_is_a_valid_event() -> None:
    assert parse_event(sample().event).needs_turn


def test_batches_hold_everything_in_order() -> None:
    lines = [Line(f"line {number}", b"{}") for number in range(1203)]
    got = list(batches(lines, 500))
    assert [line for batch in got for line in batch] == lines
    assert max(len(batch) for batch in got) <= 500


def test_a_line_does_not_wait_for_the_next_one() -> None:
    more = Event()

    def slow() -> Iterator[Line]:
        yield Line("line 1", b"{}")
        assert more.wait(10), "the first line was held back"
        yield Line("line 2", b"{}")

    got = batches(slow(), 500)
    assert next(got) == [Line("line 1", b"{}")]
    more.set()
    assert next(got) == [Line("line 2", b"{}")]


def test_an_error_of_the_source_is_raised_after_what_came_before() -> None:
    def broken() -> Iterator[Line]:
        yield Line("line 1", b"{}")
        raise CommandFailedError("gone")

    got = batches(broken(), 1)
    assert next(got) == [Line("line 1", b"{}")]
    with pytest.raises(CommandFailedError, match="gone"):
        next(got)
