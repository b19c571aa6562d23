"""Where the time of one run of a turn goes, and what it uses."""

import time
from collections.abc import Callable
from functools import partial

from workers.chat.ports import Frames
from workers.policies.delivery import Delivery
from workers.telemetry.metrics import MODEL, RELAY, Metrics

DELTA = b'"type":"assistant_message.content_part.text_delta"'
WHOLE = (b'{"type":"thread.item.done"', b'"type":"assistant_message"')
"""In the JSON of a frame. What people write cannot look like it: their quotes are escaped."""

NO_MODEL = "none"
"""The model of a turn that was told none."""


class TurnTimes:
    """Observes one run. What it costs a delta is one look at `wait_for_text`."""

    __slots__ = ("_clock", "_delivery", "_metrics", "_started", "wait_for_text")

    def __init__(self, delivery: Delivery, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._delivery, self._metrics, self._clock = delivery, metrics, clock
        self._started = clock()
        self.wait_for_text = True
        """Whether the first text of the answer is still to come: an earlier attempt may have shown it."""

    def look(self, frame: bytes, frames: Frames) -> None:
        """A frame was sent: if it is the first with text, observe when it is in the stream."""
        if DELTA in frame or (frame.startswith(WHOLE[0]) and WHOLE[1] in frame):
            self.wait_for_text = False
            frames.when_shown(partial(self._shown, self._clock()))

    def end(self) -> None:
        """The run has ended, however it did."""
        use = self._delivery.use
        if use.calls:
            self._metrics.turn_seconds.labels(MODEL).observe(self._clock() - self._started)
        for kind, tokens in (("input", use.input_tokens), ("output", use.output_tokens)):
            if tokens:
                self._metrics.tokens.labels(use.model or NO_MODEL, kind).inc(tokens)

    def _shown(self, sent: float) -> None:
        now = self._clock()
        self._metrics.turn_seconds.labels(RELAY).observe(now - sent)
        self._metrics.time_to_first_token.observe(self._delivery.age_seconds + now - self._delivery.begun_at)
