"""A second-level cache for SQLModel and SQLAlchemy sessions."""
