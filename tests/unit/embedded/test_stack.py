"""The stack's own way with Ctrl-C."""

from contextlib import suppress
from pathlib import Path

import pytest

from workers.embedded import Plan, Stack


def test_a_ctrl_c_that_a_fork_swallowed_ends_the_stack_at_the_next_look(tmp_path: Path) -> None:
    """Raised inside a hook that runs after a fork, `KeyboardInterrupt` is only printed."""
    stack = Stack(Plan(tmp_path, 1, 2, scripted=True), print)
    stack._check()
    with suppress(KeyboardInterrupt):
        stack._interrupt(2, None)
    with pytest.raises(KeyboardInterrupt):
        stack._check()
