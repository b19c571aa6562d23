"""Celery's copies of tracebacks are small, and can still be printed."""

import sys
import traceback

import pytest
from billiard import einfo

from workers.pool.tracebacks import keep_tracebacks_brief


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(einfo._Frame, "Code", einfo._Code)  # put back what was there
    keep_tracebacks_brief()


def test_a_copy_holds_no_positions_and_prints_its_lines() -> None:
    try:
        raise ValueError("a bug")
    except ValueError:
        copy = einfo.ExceptionInfo(sys.exc_info())
    assert copy.tb.tb_frame.f_code._co_positions == []
    printed = "".join(traceback.format_exception(*copy.exc_info))
    assert 'raise ValueError("a bug")' in printed
    assert "test_a_copy_holds_no_positions" in printed
