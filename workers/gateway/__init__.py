"""The HTTP front: ChatKit protocol, events, streams, sessions, health."""
