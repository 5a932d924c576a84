"""The database on SQLite, the embedded default: one file, and one connection that writes, in a thread of its own.

`store` is what the stages open; each other module has the statements for one subject, as in `sqlserver`.
"""
