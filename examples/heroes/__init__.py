"""Heroes and teams: a FastAPI application with a cache, an async database, and tests."""
