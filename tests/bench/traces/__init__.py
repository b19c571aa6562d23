"""The traces that the simulator is judged by: `python -m tests.bench.traces` writes them again, byte for byte.

They were fixed, with the rival's sweep in `tests/bench/scaling.py`, before any of them was simulated.
"""
