"""The circuit of a backend."""

from workers.backend_types import CircuitNumbers
from workers.backends.circuit import Circuit


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def calls(circuit: Circuit, *, failed: bool | None) -> bool:
    """Make a call, if one may be made."""
    with circuit.attempt() as attempt:
        if attempt is None:
            return False
        attempt.failed = failed
    return True


def opened(clock: Clock) -> Circuit:
    circuit = Circuit(CircuitNumbers(failures=3, open_seconds=10), clock)
    for _ in range(3):
        assert calls(circuit, failed=True)
    return circuit


def test_failures_in_a_row_open_it_until_its_time_has_passed() -> None:
    clock = Clock()
    circuit = opened(clock)
    assert not calls(circuit, failed=False)
    clock.now = 9.9
    assert not calls(circuit, failed=False)
    clock.now = 10
    assert calls(circuit, failed=False)
    assert calls(circuit, failed=False)


def test_an_answer_in_between_begins_the_count_anew() -> None:
    circuit = Circuit(CircuitNumbers(failures=2, open_seconds=10), Clock())
    for _ in range(5):
        assert calls(circuit, failed=True)
        assert calls(circuit, failed=False)


def test_half_open_one_call_tries_and_a_failure_opens_it_again() -> None:
    clock = Clock()
    circuit = opened(clock)
    clock.now = 10
    with circuit.attempt() as probe:
        assert probe is not None
        assert not calls(circuit, failed=False)  # nobody else meanwhile
        probe.failed = True
    assert not calls(circuit, failed=False)
    clock.now = 20
    assert calls(circuit, failed=False)


def test_a_probe_that_was_cut_off_leaves_the_place_to_the_next() -> None:
    clock = Clock()
    circuit = opened(clock)
    clock.now = 10
    assert calls(circuit, failed=None)
    assert calls(circuit, failed=False)
    assert not circuit.is_open
