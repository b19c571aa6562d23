"""Frames: written under the lease by workers, read by gateways."""
