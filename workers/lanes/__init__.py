"""Lanes: one FIFO per thread in Redis, with leases, alarms and frames. The Lua scripts are the truth."""
