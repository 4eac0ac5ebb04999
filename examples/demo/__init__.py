"""The demo: real rows read and written, with and without the cache, and every write checked."""
