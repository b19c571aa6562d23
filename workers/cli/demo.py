"""`demo`: the stack, a sample conversation through its queue, and an end."""

import tempfile
import time
from pathlib import Path

import click

from workers.cli.command import Command, Output


@click.command(cls=Command)
@click.pass_obj
def command(output: Output) -> None:
    """Run the whole stack here, publish a sample conversation through the queue, print the answers as they stream.

    Needs no service and no API key: the scripted model answers. Leaves nothing behind.
    """
    from workers.cli.conversation import CONVERSATION, Conversation
    from workers.embedded import Plan, Stack
    from workers.embedded.redis import free_port

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chatkit-demo-") as folder:
        plan = Plan(Path(folder), free_port(), free_port(), scripted=True)
        output.note("Starting the stack …")
        with Stack(plan, output.note).running():
            output.note(f"Ready after {time.monotonic() - started:.1f} s.\n")
            with Conversation(plan.gateway_url, plan.redis_url, plan.service_key, output) as conversation:
                ids = [conversation.say(message) for message in CONVERSATION]
                found = conversation.find_in_flower(plan.flower_url, ids[-1])
            output.record(
                {"gateway": plan.gateway_url, "flower": plan.flower_url, "flower_state": found, "last_event": ids[-1]},
                f"This ran behind these addresses, which end with the demo (`make up` keeps its own):\n"
                f"gateway     {plan.gateway_url}  (API at /docs)\n"
                f"playground  {plan.gateway_url}/\n"
                f"Flower      {plan.flower_url}/task/{ids[-1]}  (finds an event by its id: {found})\n",
            )
    output.note(f"Done in {time.monotonic() - started:.1f} s.")
