"""Fail points: named places where a process can be made to die, to stop, to stall or to misread the clock.

For chaos tests. They are off unless `CHATKIT_FAILPOINTS` is set when the process starts: `hit` is then a function that
does nothing. The variable holds entries, or the name of a folder with one entry in each of its files:

    CHATKIT_FAILPOINTS="after_model_chunk:37=kill,on=2;before_settle=stall,seconds=3"
    CHATKIT_FAILPOINTS=@/run/failpoints

An entry is `<point>[:<index>]=<action>`, then `on=N` for the Nth time that this process passes, and `seconds=S`. Each
acts once. Files may come and go: whichever process passes first takes the file away (`.taken`), leaves a word of it
beside it (`.hit`), and acts.
"""

import json
import os
import re
import signal
import time
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol, assert_never

from workers import clock

VARIABLE = "CHATKIT_FAILPOINTS"
ENTRY = re.compile(r"(?P<point>[a-z_]+)(?::(?P<index>\d+))?=(?P<action>[a-z]+)(?P<options>(?:,[a-z]+=-?[\d.]+)*)")
SETTLED_SECONDS = 0.05
"""A folder that was changed less than this before it was read may change again without another time stamp."""


class FailPoint(StrEnum):
    """Every place. `index` counts what the name says."""

    AFTER_ACCEPT = "after_accept"
    """An event is kept; nobody was told, and nobody woken."""
    AFTER_BEGIN = "after_begin"
    """A lane is leased; nothing was done yet."""
    BEFORE_MODEL_CALL = "before_model_call"
    """Of a turn: its model calls, from 0."""
    AFTER_MODEL_CHUNK = "after_model_chunk"
    """Of a turn: the events of its model's streams, from 0."""
    AFTER_MODEL_RESPONSE = "after_model_response"
    """Of a turn: its model calls, from 0. The last event has come."""
    AFTER_TOOL_EFFECT = "after_tool_effect"
    """A tool took effect, and has not answered. Hit by the tools of chaos tests."""
    BEFORE_SETTLE = "before_settle"
    """The answer is shown and stored; the lane does not know of it."""
    IN_DEAD_LETTER = "in_dead_letter"
    """An event is given up; its dead letter is not written yet."""
    AFTER_SETTLE = "after_settle"
    """The lane goes on; its next head was not woken."""


class Action(StrEnum):
    """What happens at a place."""

    KILL = "kill"
    """SIGKILL to this process."""
    STOP = "stop"
    """SIGSTOP to this process: somebody else has to continue it."""
    STALL = "stall"
    """The thread sleeps for `seconds`, and with it the event loop."""
    CLOCK = "clock"
    """The clock of this process steps by `seconds`, for good."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to happen where."""

    point: FailPoint
    action: Action
    index: int | None = None
    on: int = 1
    seconds: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Entry":
        """Read an entry. Raises ValueError with what is accepted."""
        found = ENTRY.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{text!r} is no entry: use <point>[:<index>]=<action>[,on=N][,seconds=S]")
        options = dict(option.split("=") for option in found["options"].split(",")[1:])
        if unknown := options.keys() - {"on", "seconds"}:
            raise ValueError(f"{text!r}: no such option: {', '.join(sorted(unknown))}; there are on and seconds")
        index = int(found["index"]) if found["index"] else None
        on, seconds = int(options.get("on", 1)), float(options.get("seconds", 0))
        return cls(FailPoint(found["point"]), Action(found["action"]), index, on, seconds)

    def __str__(self) -> str:
        place = self.point if self.index is None else f"{self.point}:{self.index}"
        return f"{place}={self.action},on={self.on},seconds={self.seconds:g}"


@dataclass(slots=True)
class _Armed:
    """An entry as this process counts it, and the file that it came from."""

    entry: Entry
    file: Path | None = None
    passed: int = 0


class FailPoints:
    """The entries of this process."""

    def __init__(self, spec: str) -> None:
        """`spec` is the variable's value. Raises ValueError."""
        self._folder = Path(spec[1:]) if spec.startswith("@") else None
        self._read_of = 0
        texts = [] if self._folder else filter(None, spec.split(";"))
        self._armed = {text: _Armed(Entry.parse(text)) for text in texts}

    def hit(self, point: FailPoint, index: int | None = None, subject: str = "") -> None:
        """Act, if an entry says so here and now. `subject` names the event, for whoever looks at it later."""
        if self._folder is not None:
            self._read(self._folder)
        for key, armed in list(self._armed.items()):
            entry = armed.entry
            if entry.point is point and entry.index in (None, index):
                armed.passed += 1
                if armed.passed >= entry.on:
                    del self._armed[key]
                    if armed.file is None or _taken(armed.file, subject):
                        _act(entry)

    def _read(self, folder: Path) -> None:
        """Look at the folder, if it has changed."""
        changed = folder.stat().st_mtime_ns
        if changed == self._read_of:
            return
        armed = {file.name: self._armed.get(file.name) or _armed_of(file) for file in folder.glob("*.arm")}
        self._armed = {name: one for name, one in armed.items() if one is not None}
        self._read_of = changed if time.time() - changed / 1e9 > SETTLED_SECONDS else 0


def _armed_of(file: Path) -> _Armed | None:
    try:
        return _Armed(Entry.parse(file.read_text()), file)
    except FileNotFoundError:  # taken just now
        return None


def _taken(file: Path, subject: str) -> bool:
    """Take the file away; False when another process was faster."""
    try:
        file.rename(file.with_suffix(".taken"))
    except FileNotFoundError:
        return False
    told = file.with_suffix(".told")
    told.write_text(json.dumps({"pid": os.getpid(), "at": time.time(), "subject": subject}))
    told.rename(file.with_suffix(".hit"))  # whoever waits for it finds all of it
    return True


def _act(entry: Entry) -> None:
    match entry.action:
        case Action.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Action.STOP:
            os.kill(os.getpid(), signal.SIGSTOP)
        case Action.STALL:
            time.sleep(entry.seconds)
        case Action.CLOCK:
            clock.step(timedelta(seconds=entry.seconds))
        case _:
            assert_never(entry.action)


class Hit(Protocol):
    """A process passes a fail point."""

    def __call__(self, point: FailPoint, index: int | None = None, subject: str = "") -> None: ...


def _off(point: FailPoint, index: int | None = None, subject: str = "") -> None:
    """Nothing."""


def hit_of(spec: str) -> Hit:
    """What `hit` is under a value of the variable. A wrong one ends the process with one line."""
    if not spec:
        return _off
    try:
        return FailPoints(spec).hit
    except ValueError as error:
        raise SystemExit(f"{VARIABLE}: {error}") from None


hit = hit_of(os.environ.get(VARIABLE, ""))
