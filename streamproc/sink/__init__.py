"""The topics of readings and of what the engine makes of them into the database, each record exactly once."""
