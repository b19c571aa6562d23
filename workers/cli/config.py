"""`config`: every setting with its value, its default and where the value comes from; secrets masked."""

import json
from typing import Any

import click

from workers.cli.command import Command, Output


@click.command(cls=Command)
@click.pass_obj
def command(output: Output) -> None:
    """Print every setting: variable, value, and whether it comes from the environment or is the default."""
    from workers.cli.settings_table import settings_table
    from workers.settings import load_settings

    rows = settings_table(load_settings())
    width = max(len(row.variable) for row in rows)
    for row in rows:
        default = "" if row.source == "default" else f"  (default {_text(row.default)})"
        output.record(row.as_record(), f"{row.variable:<{width}}  {row.source:<11}  {_text(row.value)}{default}")


def _text(value: Any) -> str:
    """A value as it would be written into the variable: objects as JSON, nothing as nothing."""
    if isinstance(value, dict):
        return json.dumps(value, default=str, ensure_ascii=False)
    return "-" if value is None else str(value)
