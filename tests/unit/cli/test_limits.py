"""`limits set`: what is wrong with what was given."""

from pathlib import Path

import pytest

from workers.cli.main import run
from workers.setting_types import LIMITS_FORM


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ('{"models": {"*": {"rmp": 5}}}', "models.*.rmp"),
        ('{"model": {}}', "model"),
        ('{"users": {"*": {"rpm": -1}}}', "users.*.rpm"),
        ('{"models": 5}', "models"),
        ("{", "limits"),
    ],
)
def test_wrong_limits_are_named_beside_what_is_accepted(
    given: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["limits", "set", given]) == 1
    wrong, accepted = capsys.readouterr().err.splitlines()
    assert wrong.startswith(f"error: {place}: ")
    assert accepted == f"error: use {LIMITS_FORM}"


def test_a_file_that_is_no_text_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "limits.json").write_bytes(b"\x7fELF\xd0")
    assert run(["limits", "set", str(tmp_path / "limits.json")]) == 1
    assert capsys.readouterr().err.startswith("error: limits: Invalid JSON")
