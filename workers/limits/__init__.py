"""The rate-limit queue: rates, places in flight, the circuit and the line of each model, as Lua scripts in Redis."""
