"""Trials of rules and learners' numbers: adding them, comparing them with the live ones, and promoting them."""
