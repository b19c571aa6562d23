"""ChatKit turns on a queue: lanes, policies, streams, agents, the worker and the gateway."""
