"""What is observed of a run: the first text, the run itself, its tokens."""

from collections.abc import Callable

from tests.builders import create_event, delivery_of
from workers.chat.timing import TurnTimes
from workers.telemetry.metrics import Metrics

DELTA = (
    b'{"type":"thread.item.updated","item_id":"m","update":'
    b'{"type":"assistant_message.content_part.text_delta","content_index":0,"delta":"Hi"}}'
)
QUOTED = b'{"type":"progress_update","text":"\\"type\\":\\"assistant_message.content_part.text_delta\\""}'
WHOLE = b'{"type":"thread.item.done","item":{"id":"m","type":"assistant_message","content":[]}}'


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Frames:
    """Writes when the test says so."""

    def __init__(self) -> None:
        self.written: Callable[[], None] | None = None

    async def send(self, frame: bytes) -> None:
        raise AssertionError(frame)

    keep = flush = send

    def when_shown(self, tell: Callable[[], None]) -> None:
        self.written = tell


def samples(metrics: Metrics) -> dict[str, float]:
    """Counts, sums and counters that are not zero, by name and labels."""
    return {
        " ".join([sample.name.removeprefix("chatkit_"), *sample.labels.values()]): round(sample.value, 3)
        for metric in metrics.counted()
        for family in metric.collect()
        for sample in family.samples
        if sample.value and not sample.name.endswith(("_bucket", "_created"))
    }


def test_the_first_text_counts_when_it_is_in_the_stream() -> None:
    clock, frames, metrics = Clock(), Frames(), Metrics()
    delivery = delivery_of(create_event(), age_seconds=2.0, begun_at=99.0)
    times = TurnTimes(delivery, metrics, clock)
    for frame in (QUOTED, b'{"type":"thread.item.added","item":{"type":"assistant_message"}}'):
        times.look(frame, frames)  # type: ignore[arg-type]  # a double
        assert frames.written is None
    clock.now = 101.0
    times.look(DELTA, frames)  # type: ignore[arg-type]  # a double
    assert not times.wait_for_text
    assert frames.written is not None
    assert samples(metrics) == {}
    clock.now = 101.5
    frames.written()
    assert samples(metrics) == {
        "turn_seconds_count relay": 1,
        "turn_seconds_sum relay": 0.5,
        "time_to_first_token_seconds_count": 1,
        "time_to_first_token_seconds_sum": 4.5,
    }


def test_an_answer_that_comes_whole_is_text_as_well() -> None:
    frames = Frames()
    TurnTimes(delivery_of(create_event()), Metrics(), Clock()).look(WHOLE, frames)  # type: ignore[arg-type]  # a double
    assert frames.written is not None


def test_a_run_counts_its_tokens_and_its_time_once_it_has_called_the_model() -> None:
    clock, metrics, delivery = Clock(), Metrics(), delivery_of(create_event())
    TurnTimes(delivery, metrics, clock).end()
    assert samples(metrics) == {}
    times = TurnTimes(delivery, metrics, clock)
    delivery.use.calls, delivery.use.model = 2, "gpt-4.1"
    delivery.use.input_tokens, delivery.use.output_tokens = 200, 40
    clock.now += 3
    times.end()
    assert samples(metrics) == {
        "turn_seconds_count model": 1,
        "turn_seconds_sum model": 3,
        "tokens_total gpt-4.1 input": 200,
        "tokens_total gpt-4.1 output": 40,
    }
