"""HTTP: the ChatKit protocol, events and their streams, sessions, health, the playground."""
