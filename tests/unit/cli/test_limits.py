"""`limits set`: what is wrong with what was given."""

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
