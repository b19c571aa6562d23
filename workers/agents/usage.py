"""What a run has cost, and what of it was this turn's: a run that waited for a consent brings its past along."""

from agents import RunResultStreaming

from workers.agents.ports import Turn

Paid = tuple[int, int, int]
"""Calls of the model, and tokens that it read and wrote."""

NOTHING: Paid = (0, 0, 0)


def paid_by(run: RunResultStreaming) -> Paid:
    """What a run has cost so far, from its very beginning."""
    usage = run.context_wrapper.usage
    # `requests` counts those that did not say what they used as well
    return len(usage.request_usage_entries), usage.input_tokens, usage.output_tokens


def count_usage(turn: Turn, run: RunResultStreaming, before: Paid) -> None:
    """Charge the turn with what the run has cost since."""
    requests, read, written = (now - then for now, then in zip(paid_by(run), before, strict=True))
    turn.add_usage(requests=requests, input_tokens=read, output_tokens=written)
