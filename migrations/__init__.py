"""The database's history; SQLite and PostgreSQL share it."""
