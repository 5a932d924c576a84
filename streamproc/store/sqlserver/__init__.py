"""The database on SQL Server: what the extra `sqlserver` is needed for.

`driver` finds the ODBC driver, `faults` tells its errors apart, `connections` keeps connections open, `migrations` makes the
schema. Nothing outside imports this package before the settings name a SQL Server.
"""
