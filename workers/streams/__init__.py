"""Frames of a turn: written in micro-batches by workers, read over one subscription by gateways."""
