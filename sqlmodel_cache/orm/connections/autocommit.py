"""Drivers that commit each statement by themselves: the fence must stand before it is sent.

By an AUTOCOMMIT isolation level, by `connect_args`, by `SET autocommit`, or because the statement
is one that commits whatever came before it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlmodel_cache.errors import FenceError
from sqlmodel_cache.orm.connections.isolation import commits_itself, driver_of, in_transaction
from sqlmodel_cache.orm.connections.publish import end_early, publishings

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from sqlmodel_cache.orm.connections.ledger import Ledger


_ITSELF: Final = "_sqlmodel_cache_commits_itself"
# Dialects whose drivers return from the execution of one statement, if it has no rows, when it is
# through. Others may tell of a trigger's rows first.
_THROUGH: Final = frozenset({"sqlite", "postgresql", "mysql", "mariadb"})


def settle_statement(context: Any, ledger: Ledger) -> bool:
    """Tell whether the statement to come will commit itself; then those before it have.

    Their fences are released here, or a thousand statements would fence a thousand times a
    thousand rows. Once for each statement: what it touched itself is kept.
    """
    known: bool | None = getattr(context, _ITSELF, None)
    if known is not None:
        return known
    itself = not ledger.opened and commits_itself(context.root_connection)
    setattr(context, _ITSELF, itself)
    if itself:
        end_early(ledger)
        ledger.frames.clear()
        ledger.everything = False
    return itself


def fence_now(connection: Connection, ledger: Ledger, context: Any = None) -> None:
    """Fence what was written so far; the next statement, or the transaction's end, releases it.

    Or the end of the statement itself, if its `context` is given: it may outlive its fence.
    """
    for one in publishings(ledger, connection.dialect):
        ledger.early.append(one)
        if not one.fence() and one.aborts:
            raise FenceError(
                "the statement was not sent: its rows could not be fenced in the cache, and"
                " on_fence_failure='abort' is set; retry it, or configure 'proceed'"
            )
    if context is not None and connection.dialect.name in _THROUGH:
        context.post_exec = partial(_post_exec, context, ledger, context.post_exec)


def _post_exec(context: Any, ledger: Ledger, before: Callable[[], None]) -> None:
    """Stand in for the context's own `post_exec`, or for what stands in for it."""
    before()
    vars(context).pop("post_exec", None)
    driver = driver_of(context.root_connection)
    # With rows to come, or in a pipeline, it may not be durable yet.
    if context.cursor.description is None and not in_transaction(driver):
        end_early(ledger)
