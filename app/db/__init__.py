"""The database: SQLAlchemy 2, sync; the ORM class is the entity."""
