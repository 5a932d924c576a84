"""Measures on this machine what the README states."""
