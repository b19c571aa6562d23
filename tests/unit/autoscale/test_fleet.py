"""The workers of one host: as many as decided, none cut, none hammered."""

from dataclasses import dataclass, field

from workers.autoscale.decision import Decision
from workers.autoscale.fleet import LAST_PAUSE_SECONDS, LIVED_SECONDS, Changed, Fleet
from workers.lanes.figures import Load


@dataclass
class Started:
    """A process that does what the test says."""

    pid: int
    code: int | None = None
    asked: bool = False

    def ask_to_stop(self) -> None:
        self.asked = True


@dataclass
class Host:
    """A fleet, and what it did."""

    started: list[Started] = field(default_factory=list)
    full: bool = False
    changes: list[Changed] = field(default_factory=list)

    def fleet(self) -> Fleet:
        return Fleet(self._start, lambda pid: f"host:{pid}", self.changes.append)

    def _start(self) -> Started:
        if self.full:
            raise BlockingIOError(11, "no more processes")
        self.started.append(Started(len(self.started)))
        return self.started[-1]

    @property
    def said(self) -> list[tuple[str, str]]:
        return [(one.change, one.worker) for one in self.changes]


def workers(count: int) -> Decision:
    return Decision(count, "because")


def loads(*running: int) -> dict[str, Load]:
    return {f"host:{pid}": Load(count, 10) for pid, count in enumerate(running)}


def test_as_many_are_started_as_decided_and_each_change_is_told_with_its_reason() -> None:
    host = Host()
    fleet = host.fleet()
    fleet.hold(workers(2), {}, 0.0)
    fleet.hold(workers(2), {}, 1.0)
    assert host.changes == [Changed("start", "host:0", "because"), Changed("start", "host:1", "because")]


def test_the_idlest_is_drained_and_left_to_come_to_its_end() -> None:
    host = Host()
    fleet = host.fleet()
    fleet.hold(workers(3), {}, 0.0)
    fleet.hold(workers(2), loads(4, 1, 3), 1.0)
    assert [one.asked for one in host.started] == [False, True, False]
    fleet.hold(workers(2), loads(4, 1, 3), 500.0)
    assert len(fleet.processes) == 3, "it still has a turn"
    host.started[1].code = 0
    fleet.hold(workers(2), loads(4, 0, 3), 501.0)
    assert host.said[-2:] == [("drain", "host:1"), ("ended", "host:1")]
    assert len(host.started) == 3


def test_load_that_comes_back_starts_another_beside_the_one_that_drains() -> None:
    host = Host()
    fleet = host.fleet()
    fleet.hold(workers(2), {}, 0.0)
    fleet.hold(workers(1), loads(1, 1), 1.0)
    fleet.hold(workers(2), loads(1, 1), 2.0)
    assert len(fleet.names) == 2
    assert len(fleet.processes) == 3


def test_a_worker_that_crashed_is_replaced_later_and_later() -> None:
    host = Host()
    fleet = host.fleet()
    now, pauses = 0.0, []
    for _ in range(9):
        fleet.hold(workers(1), {}, now)
        host.started[-1].code = 1
        fleet.reap(now)
        begun, known = now, len(host.started)
        while len(host.started) == known:
            now += 0.5
            fleet.hold(workers(1), {}, now)
        pauses.append(now - begun)
    assert pauses[:4] == [1, 2, 4, 8]
    assert max(pauses) == LAST_PAUSE_SECONDS
    host.started[-1].code = -9
    fleet.reap(now + LIVED_SECONDS)
    assert host.changes[-1].reason == "exit code -9; another in 1 s"


def test_workers_that_crash_for_days_end_no_supervisor() -> None:
    host = Host()
    fleet = host.fleet()
    for minute in range(110):
        fleet.hold(workers(10), {}, minute * LAST_PAUSE_SECONDS)
        for one in host.started[-10:]:
            one.code = 1
        fleet.reap(minute * LAST_PAUSE_SECONDS)
    assert host.changes[-1].reason == "exit code 1; another in 60 s"


def test_a_host_that_refuses_a_process_leaves_those_that_work_and_is_asked_again_later() -> None:
    host = Host()
    fleet = host.fleet()
    fleet.hold(workers(1), {}, 0.0)
    host.full = True
    fleet.hold(workers(3), {}, 1.0)
    fleet.hold(workers(3), {}, 1.5)
    assert host.changes[1:] == [Changed("refused", "", "no more processes; again in 1 s")]
    host.full = False
    fleet.hold(workers(3), {}, 2.0)
    assert fleet.names == ["host:0", "host:1", "host:2"]


def test_at_the_end_all_drain() -> None:
    host = Host()
    fleet = host.fleet()
    fleet.hold(workers(3), {}, 0.0)
    fleet.drain("stopping")
    assert all(one.asked for one in host.started)
    assert fleet.names == []
