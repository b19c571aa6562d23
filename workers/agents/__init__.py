"""The agents: integration, UI coordination, service orchestrator, and their tools."""
