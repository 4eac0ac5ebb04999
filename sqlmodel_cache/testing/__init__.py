"""For the tests of applications: what was cached, what was sent, and what if the store fails.

Nothing here needs pytest, but for `contract` and `everywhere`, which are imported by name.
"""

from sqlmodel_cache.testing.asserting import AssertCached, assert_cached, assert_not_cached
from sqlmodel_cache.testing.faults import FaultyTransport
from sqlmodel_cache.testing.statements import CountSQL, Statements, count_sql
from sqlmodel_cache.testing.temporary import temporary_cache

__all__ = (
    "AssertCached",
    "CountSQL",
    "FaultyTransport",
    "Statements",
    "assert_cached",
    "assert_not_cached",
    "count_sql",
    "temporary_cache",
)
