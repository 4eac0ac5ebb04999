"""A commit, seen by the caches: fence -> COMMIT -> release, inside the dialect's own `do_commit`.

Not in the engine's `commit` event: raising or being cancelled there leaves an open transaction
that the pool hands to the next user, whose unrelated commit then persists it. Here the COMMIT is
ours to skip, and the ROLLBACK ours to send. `pool_reset_on_return="commit"` passes here too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

from sqlmodel_cache import _state, clock
from sqlmodel_cache.errors import FenceError, UnavailableError, UnsupportedError
from sqlmodel_cache.events import Step, logger
from sqlmodel_cache.orm import bridge
from sqlmodel_cache.orm.model.tables import Root, table_map
from sqlmodel_cache.orm.queries.old import resolved
from sqlmodel_cache.orm.queries.stamps import is_stamp, queries_of
from sqlmodel_cache.protocol.write import Outcome, Publication
from sqlmodel_cache.transport.drive import ask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlmodel_cache.keys import Shard
    from sqlmodel_cache.orm.cache import Cache
    from sqlmodel_cache.orm.connections.ledger import Fenced, Ledger
    from sqlmodel_cache.protocol.read import Steps
    from sqlmodel_cache.transport.owing import Sent

# The share of a fence's life, 5 seconds, that may pass in the flush; the rest is for the COMMIT.
FRESH: Final = 1 / 12

# SQLSTATEs that say nothing of the outcome: connection exceptions, "statement completion
# unknown", and a server that is shutting down.
_LOST_CONNECTION = ("08", "40003", "57P")


@dataclass(slots=True)
class Publishing:
    """One commit attempt in one cache."""

    cache: Cache
    publication: Publication
    counts: tuple[tuple[str, int], ...]  # model name -> touched rows and tables
    tried: bool = True
    fenced: bool = True
    sent: Sent | None = None  # its fence was sent and may have come to stand
    enough_till: float = 0.0  # by `clock.real()`: so long it may count as a fence of now

    @property
    def aborts(self) -> bool:
        """Tell whether what cannot be fenced must not be committed."""
        return self.cache.config.on_fence_failure == "abort"

    def send(self) -> bool:
        """Send the fence and do not wait for it; False where that cannot be done, or not now."""
        stores, published = self.cache.stores, self.publication
        if not stores.sends or not stores.breaker.is_closed():
            return False
        if published.shards or not published.strict:
            return False
        self.enough_till = clock.real() + FRESH * published.duration / 1000
        (op,) = published.fence()
        self.sent = stores.sync.send(op)
        return self.sent is not None

    def take_over(self, ahead: Publishing) -> None:
        """Be the same attempt as `ahead`, whose fence was sent when less may have been touched."""
        before, now = ahead.publication, self.publication
        covered = not now.shards and set(now.entries) <= set(before.entries)
        self.publication = replace(
            now, entries=tuple({*before.entries, *now.entries}), writer=before.writer
        )
        self.sent, self.enough_till = ahead.sent, ahead.enough_till if covered else 0.0

    def fence(self) -> bool:
        """Fence; False if the store could not be asked."""
        self.tried = self.aborts or not self.cache.backlog.speaks_for(self.publication)
        self.fenced = self._stands() or (
            self.tried and self._ask(self.publication.fence(), "fence")
        )
        if not self.fenced:
            for name, number in self.counts:
                self.cache.tally.for_model(name).errors += number
        return self.fenced

    def settle(self, outcome: Outcome) -> None:
        """Release or keep; raises nothing but a cancellation.

        What the store does not take now goes into the backlog. What it never can is lost.
        """
        if outcome is Outcome.REFUSED and not self.fenced:
            return  # nothing was fenced and nothing changed
        self._stands()  # it must not come after its release
        if self.fenced and self._ask(self.publication.settle(outcome), "release"):
            if outcome is Outcome.COMMITTED:
                for name, number in self.counts:
                    self.cache.tally.for_model(name).invalidate(number)
            return
        if outcome is Outcome.REFUSED:
            return  # nothing changed; the fence runs out by itself
        possible = self.cache.stores.full or not self.publication.shards
        if possible and bridge.reachable(self.cache.stores):
            (waiting,) = self.publication.settle(outcome)
            self.cache.backlog.add(waiting, tried=self.tried)
        else:
            self.cache.lose(dict(self.counts), "the transport cannot do it, or not from here")

    def _stands(self) -> bool:
        """Wait for the fence that was sent; tell whether it stands and will for long enough."""
        sent, self.sent = self.sent, None
        if sent is None:
            return False
        begun = clock.real()
        stands = sent.arrived() and begun < self.enough_till
        if stands:
            self._note("fence", begun)
        return stands

    def _note(self, step: Step, begun: float) -> None:
        seconds = clock.real() - begun
        for name, _ in self.counts:
            self.cache.tally.for_model(name).time(step, seconds)

    def _ask(self, steps: Steps[None], step: Step) -> bool:
        stores = self.cache.stores
        begun = clock.real()
        try:
            if bridge.at_hand(stores):  # every commit of a plain session: no `drive` for one step
                for op in steps:
                    ask(stores.sync.perform, op, stores.breaker)
            elif step == "release":
                bridge.run_shielded(stores, steps)
            else:
                bridge.run(stores, steps)
        except (UnavailableError, UnsupportedError) as error:
            logger.debug("publishing failed: %s", error)
            return False
        finally:
            self._note(step, begun)
        return True


def publishings(ledger: Ledger, dialect: Any, *, ahead: bool = False) -> list[Publishing]:
    """Return what must be published of a ledger, one for each live cache.

    `ahead` of the statement nothing is lost yet. Rows in cached queries or lists are not fenced
    so early: the cache still has to tell their old values, once the database has locked them.
    """
    touched = ledger.frames.capture()
    tables: set[Root] = set()
    known = table_map()
    for table in touched.tables:
        tables.update(known.roots_named(str(table)))
    if ledger.everything:
        tables.update(known.roots())
    for table in ledger.doubtful_tables():
        tables.update(known.roots_named(table))
    keys = cast("frozenset[tuple[str, str]]", touched.rows)
    named = [
        (root, pk)
        for table, pk in keys
        for root in known.roots_named(table)
        if root not in tables and (root.stamped or not is_stamp(pk))
    ]
    if not named and not tables:
        return []
    if ahead and any(root.stamped for root, _ in named):
        return []
    return [
        one
        for cache in _state.live()
        if cache.config.enabled
        for one in [_publishing(cache, dialect, ledger.namespaces, named, tables, ahead)]
        if one is not None
    ]


def _publishing(
    cache: Cache,
    dialect: Any,
    namespaces: set[str],
    rows: list[tuple[Root, str]],
    tables: set[Root],
    ahead: bool,
) -> Publishing | None:
    if unnamed := {root for root, _ in rows if cache.cannot_name(root)}:
        rows = [(root, pk) for root, pk in rows if root not in unnamed]
        tables = tables | unnamed
    entries = []
    shards: list[Shard] = []
    told: dict[Root, list[str]] = {}
    for root, pk in rows:
        if root.stamped:
            told.setdefault(root, []).append(pk)
    for namespace in cache.sites.of(dialect).namespaces | namespaces:
        for root, pk in rows:
            if not root.stamped:
                entries.append(cache.keys_of(namespace, root).entry(pk))
        for root, texts in told.items():
            keyspace = cache.keys_of(namespace, root)
            entries += map(keyspace.entry, resolved(cache, dialect, namespace, root, texts))
        for root in tables:
            shards.extend(cache.keys_of(namespace, root).shards)
    counts: dict[str, int] = {}
    for root, pk in rows:
        name = queries_of(root.name) if root.stamped and is_stamp(pk) else root.name
        counts[name] = counts.get(name, 0) + 1
    for root in tables:
        counts[root.name] = counts.get(root.name, 0) + 1
    if not entries and not shards:
        if not ahead:
            cache.lose(counts, "the namespace of this connection's database is not known")
        return None
    strict = cache.config.consistency == "strict" and cache.stores.full
    publication = Publication(tuple(entries), tuple(shards), strict=strict)
    return Publishing(cache, publication, tuple(counts.items()))


def commit(ledger: Ledger, dialect: Any, do_commit: Any, do_rollback: Any) -> None:
    """Run `do_commit()` between fence and release. `do_rollback()` is sent if it must not run."""
    todo: list[Publishing] = []
    fenced: list[Publishing] = []
    try:
        todo += publishings(ledger, dialect)
        if ledger.ahead:
            todo = _continued(ledger, todo)
            fenced += [one for one in todo if one.sent is not None]
        for one in todo:
            if one.sent is None:
                fenced.append(one)
            if not one.fence() and one.aborts:
                raise FenceError(
                    "nothing was committed: its rows could not be fenced in the cache, and"
                    " on_fence_failure='abort' is set; retry it, or configure 'proceed'"
                )
    except BaseException:
        try:
            do_rollback()
        finally:
            ledger.end()
            settle_all(fenced, Outcome.REFUSED)
        raise
    try:
        do_commit()
    except BaseException as error:
        settle_all(todo, outcome_of(error, dialect))
        raise
    early, ledger.early = ledger.early, []
    ledger.end()
    settle_all([*early, *todo], Outcome.COMMITTED)


def _continued(ledger: Ledger, todo: list[Publishing]) -> list[Publishing]:
    """Return what is to be published, each in the place of its fence that was sent ahead."""
    ahead, ledger.ahead = ledger.ahead, []
    by_cache = {id(one.cache): one for one in todo}
    for sent in ahead:
        now = by_cache.get(id(sent.cache))
        if now is None:  # nothing to be published of what was touched: a savepoint was rolled back
            todo.append(sent)
        else:
            now.take_over(sent)
    return todo


def withdraw(ledger: Ledger) -> None:
    """Release what was fenced ahead of a COMMIT that did not come."""
    ahead, ledger.ahead = ledger.ahead, []
    settle_all(ahead, Outcome.REFUSED)


def settle_all(publishings: Sequence[Fenced], outcome: Outcome) -> None:
    """Settle each one, also when the task is cancelled meanwhile; then let that be raised."""
    cancelled: BaseException | None = None
    for one in publishings:
        try:
            one.settle(outcome)
        except BaseException as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def end_early(ledger: Ledger) -> None:
    """Release what was fenced ahead of statements that committed by themselves."""
    early, ledger.early = ledger.early, []
    settle_all(early, Outcome.COMMITTED)


def outcome_of(error: BaseException, dialect: Any) -> Outcome:
    """Judge a COMMIT that raised: whether the server refused it, or nobody can tell."""
    dbapi = dialect.loaded_dbapi
    if not isinstance(error, dbapi.Error):
        return Outcome.AMBIGUOUS
    if dialect.name == "sqlite":
        return Outcome.REFUSED
    if dialect.is_disconnect(error, None, None):
        return Outcome.AMBIGUOUS
    state = str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")
    if state.startswith(_LOST_CONNECTION):  # asyncpg gives one to what no server has said
        return Outcome.AMBIGUOUS
    if state:
        return Outcome.REFUSED
    if isinstance(error, dbapi.OperationalError | dbapi.InterfaceError):
        return Outcome.AMBIGUOUS
    return Outcome.REFUSED
