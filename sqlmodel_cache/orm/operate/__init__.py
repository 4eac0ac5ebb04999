"""Modes, comparison with the database, the switch, erasure and explanations."""
