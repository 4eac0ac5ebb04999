"""A fence that travels while the database works: sent before the statement, read before the COMMIT.

Where `Session.commit()` flushes, what is flushed will be committed at once. So the fence of its
rows is sent to the store just before the first statement is sent to the database, and nobody waits
for the reply until the COMMIT is due: one round trip less. A fence that stands early is only more
cautious, as readers go to the database meanwhile. What it does not cover, or not for long enough
any more, is fenced in the usual way, under the same writer; a rollback releases it. Models whose
queries are cached are left out: what their rows had before is read from the cache before its fence.

A flush of its own fences nothing: the transaction may go on for minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from sqlmodel_cache.orm import _sqlalchemy
from sqlmodel_cache.orm.connections.publish import publishings

if TYPE_CHECKING:
    from sqlalchemy.orm import SessionTransaction

    from sqlmodel_cache.orm.connections.ledger import Ledger

# Transactions of sessions that are being committed, and the connections that they run on.
_committing: WeakSet[SessionTransaction | Connection] = WeakSet()


def watch() -> None:
    """Listen to commits of sessions. Idempotent."""
    if not event.contains(Session, "before_commit", _before_commit):
        event.listen(Session, "before_commit", _before_commit)


def unwatch() -> None:
    """Undo `watch`."""
    if event.contains(Session, "before_commit", _before_commit):
        event.remove(Session, "before_commit", _before_commit)
    _committing.clear()


def note_begin(transaction: SessionTransaction, connection: Connection) -> None:
    """Remember a connection that a session took to flush what it commits."""
    if transaction in _committing:
        _committing.add(connection)


def _before_commit(session: Session) -> None:
    """Remember that what the session flushes from now on is committed at once.

    Not at the end of a savepoint, before a PREPARE, or on a connection that somebody else commits.
    In a greenlet the store is awaited.
    """
    if _sqlalchemy.in_greenlet():
        return
    root = session.get_transaction()
    if root is None or session.get_nested_transaction() is not None:
        return
    if session.twophase or isinstance(session.bind, Connection):
        return
    _committing.add(root)
    connection = _sqlalchemy.connection_of(session, session.bind)
    if connection is not None:
        _committing.add(connection)


def fence_ahead(connection: Connection, ledger: Ledger) -> None:
    """Send the fence of what was touched so far, if it will be committed at once. Never raises."""
    if connection in _committing:
        # Once: what later statements touch is fenced before the COMMIT.
        _committing.discard(connection)
        known = publishings(ledger, connection.dialect, ahead=True)
        ledger.ahead = [one for one in known if one.send()]
