"""Doubles shipped for users' tests."""
