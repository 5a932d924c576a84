"""The sink: writes readings and the engine's outputs from their topics into the database, each record exactly once."""
