"""Cached results of queries: what they depend on, and how they are read, stored and forgotten."""
