"""Trials of rules and learners' numbers: putting them on, comparing them with what was told, and making them live."""
