"""Chaos: a deployment of its own, faults from a seeded plan, records of what happened, and a checker of the records."""
