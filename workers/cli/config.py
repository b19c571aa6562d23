"""`config`: every setting with its value, its default and where the value comes from; secrets masked."""

import os
from typing import Any

import click
from pydantic import BaseModel, SecretStr

from workers.cli.command import Command, Output
from workers.settings import MASK, Settings, load_settings, masked_url, variable_of


@click.command(cls=Command)
@click.pass_obj
def command(output: Output) -> None:
    """Print every setting: variable, value, and whether it comes from the environment or is the default."""
    settings = load_settings()
    rows = [row(settings, field) for field in Settings.model_fields]
    width = max(len(str(line["variable"])) for line in rows)
    for line in rows:
        default = f" (default {line['default']})" if line["source"] == "environment" else ""
        text = f"{line['variable']:<{width}}  {line['source']:<11}  {line['value']}{default}"
        output.record(line, text)


def row(settings: Settings, field: str) -> dict[str, object]:
    """One setting, ready to be shown."""
    variable = variable_of(field)
    return {
        "variable": variable,
        "value": shown(getattr(settings, field)),
        "default": shown(Settings.model_fields[field].get_default(call_default_factory=True)),
        "source": "environment" if os.environ.get(variable) else "default",
    }


def shown(value: Any) -> Any:
    """A value as far as it may be seen."""
    match value:
        case SecretStr():
            return MASK if value.get_secret_value() else None
        case BaseModel():
            return value.model_dump()
        case str() if "://" in value:
            return masked_url(value)
        case _:
            return value
