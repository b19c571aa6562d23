"""How long the state machines look for a sequence of steps that breaks the scripts."""

from hypothesis import HealthCheck, settings


def profile(examples: int, steps: int, *, long: bool) -> settings:
    """The bounds of a run; one with `--long` is twenty times as long."""
    return settings(
        max_examples=examples * (20 if long else 1),
        stateful_step_count=steps,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
