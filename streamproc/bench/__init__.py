"""Measurements: what the README states, measured again on this machine."""
