"""The one-command stack: Redis (or its fake), SQLite, workers, gateway and Flower as children of one process."""

from workers.embedded.stack import Plan, Stack, StackError

__all__ = ["Plan", "Stack", "StackError"]
