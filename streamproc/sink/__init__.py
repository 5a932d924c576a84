"""Readings, windows, predictions, events and notifications from their topics into the database, exactly once."""
