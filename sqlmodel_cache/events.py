"""What happened: one event per lookup, one per invalidation, counted per model.

Counters are plain ints bumped under the interpreter lock. Nothing here is derived from anything
but these events: `stats()`, logs and every metric build on them. What takes a database or a
commit is timed each time; of the hits one in `SAMPLED`, as two readings of a clock for each would
cost more than all the counting.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Sequence
from types import MappingProxyType
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from sqlmodel_cache import clock
from sqlmodel_cache.latency import Histogram
from sqlmodel_cache.stats import LocalStats, ModelStats, Stats, add_up_models

logger = logging.getLogger("sqlmodel_cache")
logger.addHandler(logging.NullHandler())

SAMPLED: Final = 16  # one hit of so many is timed, the second first: the first one compiles


class Bypass(enum.StrEnum):
    """Why a lookup went straight to the database. The value is the name shown in `stats()`."""

    DISABLED = "disabled"  # configure(enabled=False)
    HOOKS_OFF = "hook_sessions_off"  # a plain session under hook_sessions=False
    BLOCK = "bypass_block"  # inside SQLModelCache.bypass()
    OPTION = "cache_false"  # execution option cache=False
    MODEL_OFF = "model_off"  # CacheConfig(enabled=False)
    EAGER = "eager_relationship"  # a relationship that a load would load too
    EXPRESSION = "column_expression"  # column_property() over a SQL expression
    SELECTABLE = "selectable"  # mapped to something that is not a table
    ALWAYS_REFRESH = "always_refresh"
    LOADER_OPTIONS = "loader_options"
    POPULATE_EXISTING = "populate_existing"
    FOR_UPDATE = "with_for_update"
    IDENTITY_TOKEN = "identity_token"
    ORM_HOOK = "do_orm_execute_hook"  # a listener or the session's class may change the statement
    SESSION_CLASS = "session_class"  # the session finds identities its own way (sharding)
    INACTIVE = "session_inactive"  # a failed flush, after_commit: a load raises, so must this
    TOUCHED = "touched"  # this connection wrote it and has not ended its transaction
    SNAPSHOT = "snapshot"  # an older snapshot of this transaction must not see newer values
    ISOLATION = "isolation_level"
    SETTINGS = "connection_settings"  # SET ROLE, search_path, ... seen on this connection
    NAMESPACE = "namespace_unknown"  # which database this is cannot be told
    KEY = "key_value"  # the value asked for does not fit the column's type without loss
    TRANSPORT = "transport"  # an async-only transport met by a plain session
    BREAKER = "breaker_open"  # the store failed a moment ago and is left alone
    QUEUED = "invalidation_queued"  # written, and the store has not been told yet
    INVALIDATE = "mode_invalidate"  # mode="invalidate": nobody reads
    SHADOW = "mode_shadow"  # it was in the store; the database answered, and was compared
    SWITCHED_OFF = "switched_off"  # SQLModelCache.switch_off(), in whatever process
    KEY_SECRET = "key_secret"  # other processes hide the keys of this model by another secret
    SAMPLE = "not_sampled"  # not one of the share that `sample` lets in
    QUERY = "query_cache"  # cache=True on a select() of models whose queries are not cached
    STATEMENT = "query_statement"  # of this SELECT it cannot be told what its result depends on


# What is timed, by its key in `stats().latencies`.
Step: TypeAlias = Literal[
    "hit",  # from asking the store to the instance
    "miss",  # the same with the database in between, and the fill
    "database",  # the load inside a miss: what a read costs without a cache
    "failure",  # until a lookup was given up
    "fill",  # where nobody waits for the store's answer, the sending of it
    "fence",  # before a COMMIT
    "release",  # after it
]


class Outcome(enum.StrEnum):
    """How a lookup ended."""

    HIT = "hit"
    MISS = "miss"
    BYPASS = "bypass"  # the store was not asked
    FAILURE = "failure"  # the store did not answer


class Lookup(msgspec.Struct, frozen=True):
    """One lookup of one row has ended.

    `reason` is a bypass' own. `seconds` is the time from asking the store to the instance, and
    None for a bypass; of rows that were asked for together each has its share.
    """

    model: str
    outcome: Outcome
    reason: Bypass | None = None
    seconds: float | None = None


class Invalidated(msgspec.Struct, frozen=True):
    """A commit or an explicit call made the store forget `number` rows or whole tables."""

    model: str
    number: int


Event: TypeAlias = Lookup | Invalidated


class Observer(Protocol):
    """Somebody who hears of each event at once, given to `configure(observers=[...])`."""

    def __call__(self, event: Event, /) -> object:
        """Take note. Called in the reader's or writer's own thread: be quick, and do not wait."""


class Counters:
    """The running counts of one model, plain ints; `bypasses` by reason, `times` by step."""

    __slots__ = (
        "_observers", "bypasses", "differing", "errors", "fills", "hits", "inconsistent",
        "invalidations", "lost", "misses", "name", "quiet_till", "shadow_different",
        "shadow_same", "shadow_unsure", "times", "verified",
    )  # fmt: skip

    def __init__(self, name: str = "", observers: Sequence[Observer] = ()) -> None:
        self.name = name
        self._observers = observers
        self.restart()

    def observe(self, observer: Observer) -> None:
        """Let `observer` hear of each event from now on. Idempotent."""
        if observer not in self._observers:
            self._observers = (*self._observers, observer)

    def restart(self) -> None:
        """Begin at nothing."""
        self.hits = self.misses = self.fills = self.invalidations = self.errors = self.lost = 0
        self.shadow_same = self.shadow_different = self.shadow_unsure = 0
        self.verified = self.inconsistent = 0
        self.differing: dict[str, int] = {}
        self.quiet_till = 0.0  # by `clock.real()`: when the next difference is worth a line
        self.bypasses: dict[Bypass, int] = {}
        self.times: dict[Step, Histogram] = {}

    def hit(self, begun: float, among: int = 1) -> None:
        """Count one read answered from the store.

        `begun` is `clock.real()` from before it was asked, for `among` rows at once.
        """
        self.hits = hits = self.hits + 1
        if hits % SAMPLED == 2:
            self.time("hit", (clock.real() - begun) / among)
        if self._observers:
            self._tell(Lookup(self.name, Outcome.HIT, None, (clock.real() - begun) / among))

    def hit_together(self, begun: float, number: int) -> None:
        """Count `number` reads that the store answered at once, each as `hit` does."""
        before = self.hits
        self.hits = after = before + number
        timed = (after - 2) // SAMPLED - (before - 2) // SAMPLED
        for _ in range(timed):
            self.time("hit", (clock.real() - begun) / number)
        if self._observers:
            for _ in range(number):
                self._tell(Lookup(self.name, Outcome.HIT, None, (clock.real() - begun) / number))

    def miss(self, begun: float, database: float | None, among: int = 1) -> None:
        """Note one read, counted in `misses` already, that the database answered.

        `database` is how many seconds the load of those `among` rows took, None if it raised.
        """
        seconds = (clock.real() - begun) / among
        if database is not None:
            self.time("miss", seconds)
            self.time("database", database / among)
        if self._observers:
            self._tell(Lookup(self.name, Outcome.MISS, None, seconds))

    def bypass(self, reason: Bypass) -> None:
        """Count one lookup that did not use the cache."""
        self.bypasses[reason] = self.bypasses.get(reason, 0) + 1
        logger.debug("%s: not from the cache, %s", self.name, reason.value)
        if self._observers:
            self._tell(Lookup(self.name, Outcome.BYPASS, reason))

    def fail(self, begun: float, among: int = 1) -> None:
        """Count one lookup that the store did not answer."""
        self.errors += 1
        seconds = (clock.real() - begun) / among
        self.time("failure", seconds)
        if self._observers:
            self._tell(Lookup(self.name, Outcome.FAILURE, None, seconds))

    def invalidate(self, number: int) -> None:
        """Count rows and whole tables that the store forgot."""
        self.invalidations += number
        if self._observers:
            self._tell(Invalidated(self.name, number))

    def time(self, step: Step, seconds: float) -> None:
        """Note how long something took."""
        histogram = self.times.get(step)
        if histogram is None:
            histogram = self.times.setdefault(step, Histogram())
        histogram.add(seconds)

    def freeze(self) -> ModelStats:
        """Return the counts as they stand."""
        return ModelStats(
            hits=self.hits,
            misses=self.misses,
            fills=self.fills,
            invalidations=self.invalidations,
            errors=self.errors,
            lost=self.lost,
            shadow_same=self.shadow_same,
            shadow_different=self.shadow_different,
            shadow_unsure=self.shadow_unsure,
            verified=self.verified,
            inconsistent=self.inconsistent,
            differing=MappingProxyType(self.differing.copy()),
            bypasses=MappingProxyType({key.value: n for key, n in self.bypasses.copy().items()}),
            latencies=MappingProxyType(
                {step: one.freeze() for step, one in self.times.copy().items()}
            ),
        )

    def _tell(self, event: Event) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except Exception:  # an observer is no reason for a read to fail
                logger.exception("an observer of the cache raised")


class Tally:
    """All counters of one cache. `for_model` is called once per compiled model, not per call."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)
        self._models: dict[str, Counters] = {}
        self.unattributed = Counters()

    def for_model(self, name: str) -> Counters:
        """Return the counters of the model called `name`, made on first use."""
        try:
            return self._models[name]
        except KeyError:
            return self._models.setdefault(name, Counters(name, self._observers))

    def observe(self, observer: Observer) -> None:
        """Let `observer` hear of each event from now on. Idempotent."""
        if observer not in self._observers:
            self._observers += (observer,)
            for counters in self._models.copy().values():
                counters.observe(observer)

    def restart(self) -> None:
        """Begin at nothing, as a forked child does: what happened before was its parent's."""
        for counters in (*self._models.values(), self.unattributed):
            counters.restart()

    def snapshot(self, breaker: str, queue: int, local: LocalStats | None = None) -> Stats:
        """Return the counts as they stand."""
        models = {name: each.freeze() for name, each in sorted(self._models.copy().items())}
        total = add_up_models([*models.values(), self.unattributed.freeze()])
        return Stats(
            **total,
            models=MappingProxyType(models),
            breaker=breaker,
            queue=queue,
            local=local,
        )
