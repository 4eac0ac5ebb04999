"""Lookups answered from the cache, and what a hit brings along, as a load would."""
