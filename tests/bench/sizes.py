"""How much is measured: enough for steady figures, or just enough to see that a benchmark still runs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of each benchmark."""

    noops: int = 10_000
    batched_events: int = 20_000
    single_events: int = 6_000
    threads: int = 1_000
    turns_in_flight: int = 1_000
    open_streams: int = 20
    first_frame_turns: int = 300
    turns_per_second: float = 10.0
    cpu_turns: int = 200
    deltas: int = 300
    backlog: int = 2_000
    backlog_rpm: int = 2_400
    parked: int = 100_000
    sessions: int = 100_000
    flood: int = 5_000
    clients: int = 1_000
    followed_turns: int = 50
    frames_each: int = 40
    scale_peak: float = 5.0
    scale_step_seconds: float = 30.0
    scale_plot: bool = True


FULL = Sizes()
SMOKE = Sizes(
    noops=300,
    batched_events=400,
    single_events=100,
    threads=10,
    turns_in_flight=20,
    open_streams=3,
    first_frame_turns=10,
    cpu_turns=10,
    backlog=40,
    parked=2_000,
    sessions=500,
    flood=200,
    clients=40,
    followed_turns=10,
    frames_each=4,
    scale_peak=3.0,
    scale_step_seconds=10.0,
    scale_plot=False,
)
