"""Client secrets: short-lived signed tokens that name a tenant, a user and a session."""
