"""What goes over the wire: events, requests, outcomes, records. Light to import, pydantic only."""
