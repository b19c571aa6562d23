"""Metric catalogue, logging, Sentry."""
