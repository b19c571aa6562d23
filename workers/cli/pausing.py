"""What `pause` and `resume` share: naming one thing, and doing it to the deployment."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from workers.lanes.pauses import Paused, Pauses


def one_thing(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name what is meant."""
    for option in (
        click.option("--queue", metavar="NAME", help="Every event that this queue wakes."),
        click.option("--tenant", metavar="NAME", help="Every event of a tenant."),
        click.option("--type", "type_", metavar="TYPE", help="An event type, such as threads.create."),
    ):
        function = option(function)
    return function


def named(type_: str | None, tenant: str | None, queue: str | None) -> "Paused | None":
    """What the options name; None when they name nothing. Raises a usage error for a wrong or a second name."""
    from schemas.events import PREFIX, event_types
    from workers.lanes.pauses import Paused

    given = [name for name in (type_, tenant, queue) if name is not None]
    if len(given) > 1:
        raise click.UsageError("give one of --type, --tenant and --queue")
    if type_ is not None:
        full = PREFIX + type_.removeprefix(PREFIX)
        if full not in event_types():
            raise click.UsageError(f"--type: {type_} is no event type; `chatkit-workers schema` lists them")
        return Paused("type", full)
    if queue is not None:
        from workers.plugins import router_of
        from workers.settings import load_settings

        wakers = router_of(load_settings()).wakers
        if queue not in wakers:
            raise click.UsageError(f"--queue: {queue} wakes no events; use one of {', '.join(wakers)}")
        return Paused("queue", queue)
    return Paused("tenant", tenant) if tenant is not None else None


async def with_pauses(do: "Callable[[Pauses], Awaitable[Any]]") -> Any:
    """Run something on the deployment's pauses."""
    from workers.cli.connections import open_lanes
    from workers.settings import load_settings

    async with open_lanes(load_settings()) as (lanes, _):
        return await do(lanes.pauses)
