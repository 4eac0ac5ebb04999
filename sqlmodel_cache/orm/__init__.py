"""SQLAlchemy meets the cache: plain synchronous code over floors 1 to 4."""
