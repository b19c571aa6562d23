"""`limits`: show and change what may be used."""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workers.cli.command import Command, CommandFailedError, CommandGroup, Output

if TYPE_CHECKING:
    from workers.limits.limiter import ModelStatus
    from workers.setting_types import Limits


@click.group(cls=CommandGroup)
def command() -> None:
    """The limits of models, tenants and users, as every worker keeps them."""


@command.command(cls=Command)
@click.pass_obj
def show(output: Output) -> None:
    """Each model: limits, ceiling after refusals, circuit, how many in flight and in line. Last, the limits as JSON."""
    limits, models = asyncio.run(_show())
    given = limits.model_dump(exclude_none=True)
    text = [line for model in models for line in lines(model)] + [json.dumps(given)]
    output.record({"limits": given, "models": [asdict(model) for model in models]}, "\n".join(text))


@command.command("set", cls=Command)
@click.argument("limits", metavar="JSON|FILE|-")
@click.pass_obj
def set_(output: Output, limits: str) -> None:
    """Set all limits, for every worker at once; in force until they are set again or CHATKIT_LIMITS changes."""
    chosen = _parsed(limits)
    asyncio.run(_set(chosen))
    fields = chosen.model_dump(exclude_none=True)
    output.record({"limits": fields}, json.dumps(fields))


def _parsed(given: str) -> "Limits":
    from pydantic import ValidationError

    from workers.setting_types import LIMITS_FORM, Limits

    try:
        return Limits.model_validate_json(_text_of(given))
    except ValidationError as error:
        details = error.errors(include_input=False)
        wrong = [f"{'.'.join(map(str, detail['loc'])) or 'limits'}: {detail['msg']}" for detail in details]
        raise CommandFailedError("\n".join([*wrong, f"use {LIMITS_FORM}"])) from None


def _text_of(given: str) -> str | bytes:
    if given == "-":
        return sys.stdin.buffer.read()
    if given.lstrip().startswith("{"):
        return given
    try:
        return Path(given).read_bytes()
    except OSError as error:
        wanted = "give a JSON object, a file that holds one, or -"
        raise CommandFailedError(f"{given}: {error.strerror}; {wanted}") from None


async def _show() -> "tuple[Limits, list[ModelStatus]]":
    from workers.cli.connections import open_lanes
    from workers.lanes.deployment import keys_of
    from workers.limits.limiter import Limiter
    from workers.settings import load_settings

    settings = load_settings()
    async with open_lanes(settings) as (_, state):
        limiter = Limiter(state, keys_of(settings))
        return await limiter.limits(), await limiter.status(settings.model, *filter(None, [settings.fallback_model]))


async def _set(limits: "Limits") -> None:
    from workers.cli.connections import open_lanes
    from workers.lanes.deployment import keys_of
    from workers.limits.limiter import Limiter
    from workers.settings import load_settings

    settings = load_settings()
    async with open_lanes(settings) as (_, state):
        await Limiter(state, keys_of(settings)).set_limits(limits)


def lines(model: "ModelStatus") -> list[str]:
    """One model in a few lines."""
    used = [("rpm", model.rpm, model.used_rpm), ("tpm", model.tpm, model.used_tpm)]
    used.append(("concurrency", model.concurrency, model.used_concurrency))
    limits = [f"{name} {limit:g} ({ratio or 0:.0%} used)" for name, limit, ratio in used if limit is not None]
    state = [f"circuit {model.circuit}" + (f" for {model.circuit_seconds:.0f} s" if model.circuit_seconds else "")]
    if model.ceiling < 1:
        state.append(f"ceiling {model.ceiling:.0%}")
    if model.held_seconds:
        state.append(f"held for {model.held_seconds:.0f} s")
    return [
        f"{model.model}: {', '.join(limits) or 'no limits'}",
        f"  {', '.join(state)}; in flight {model.in_flight}, in line {model.waiting}",
    ]
