"""Lanes: one FIFO per conversation in Redis, with leases, epochs and alarms."""
