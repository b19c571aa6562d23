"""The turn: the official ChatKit server inside the worker, over an SQL store."""
