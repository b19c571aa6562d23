"""The settings as `config` shows them."""

import os
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, SecretStr

from workers.settings import MASK, Settings, masked_url, variable_of


@dataclass(frozen=True, slots=True)
class Row:
    """One setting, ready to be shown."""

    variable: str
    value: Any
    default: Any
    source: Literal["environment", "default"]

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


def settings_table(settings: Settings) -> list[Row]:
    """Every setting."""
    return [_row(settings, field) for field in Settings.model_fields]


def _row(settings: Settings, field: str) -> Row:
    variable = variable_of(field)
    return Row(
        variable,
        value=_shown(getattr(settings, field)),
        default=_shown(Settings.model_fields[field].get_default(call_default_factory=True)),
        source="environment" if os.environ.get(variable) else "default",
    )


def _shown(value: Any) -> Any:
    """A value as far as it may be seen."""
    match value:
        case SecretStr():
            return MASK if value.get_secret_value() else None
        case BaseModel():
            return value.model_dump()
        case dict():
            return {name: _shown(inner) for name, inner in value.items()}
        case str() if "://" in value:
            return masked_url(value)
        case _:
            return value
