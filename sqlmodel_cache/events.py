"""What happened: one event per lookup, one per invalidation, counted per model.

Counters are plain ints bumped under the interpreter lock. Nothing here is derived from anything
but these events: `stats()`, logs and every metric build on them.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

logger = logging.getLogger("sqlmodel_cache")
logger.addHandler(logging.NullHandler())


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
    ORM_HOOK = "do_orm_execute_hook"  # someone else's listener may change the statement
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
    QUERY = "query_cache"  # cache=True on a select(): not cached yet


class Counters:
    """The running counts of one model. Shapes are plain ints; `bypasses` by reason."""

    __slots__ = ("bypasses", "errors", "fills", "hits", "invalidations", "lost", "misses")

    def __init__(self) -> None:
        self.hits = self.misses = self.fills = self.invalidations = self.errors = self.lost = 0
        self.bypasses: dict[Bypass, int] = {}

    def bypass(self, reason: Bypass) -> None:
        """Count one lookup that did not use the cache."""
        self.bypasses[reason] = self.bypasses.get(reason, 0) + 1


@dataclass(frozen=True, slots=True)
class ModelStats:
    """Counts of one model since `configure()`."""

    hits: int = 0
    misses: int = 0
    fills: int = 0
    invalidations: int = 0
    errors: int = 0
    lost: int = 0
    bypasses: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Stats(ModelStats):
    """Counts of all models since `configure()`, and the state of the store."""

    models: Mapping[str, ModelStats] = field(default_factory=lambda: MappingProxyType({}))
    breaker: str = "closed"
    queue: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain dicts, strings and ints: for JSON, a route, a log."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value: object) -> object:
    if isinstance(value, ModelStats):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return value


class Tally:
    """All counters of one cache. `for_model` is called once per compiled model, not per call."""

    def __init__(self) -> None:
        self._models: dict[str, Counters] = {}
        self.unattributed = Counters()

    def for_model(self, name: str) -> Counters:
        """Return the counters of the model called `name`, made on first use."""
        return self._models.setdefault(name, Counters())

    def snapshot(self, breaker: str, queue: int) -> Stats:
        """Return the counts as they stand."""
        models = {name: _freeze(counters) for name, counters in sorted(self._models.items())}
        every = [*models.values(), _freeze(self.unattributed)]
        bypasses: dict[str, int] = {}
        for one in every:
            for reason, count in one.bypasses.items():
                bypasses[reason] = bypasses.get(reason, 0) + count
        return Stats(
            hits=sum(one.hits for one in every),
            misses=sum(one.misses for one in every),
            fills=sum(one.fills for one in every),
            invalidations=sum(one.invalidations for one in every),
            errors=sum(one.errors for one in every),
            lost=sum(one.lost for one in every),
            bypasses=MappingProxyType(bypasses),
            models=MappingProxyType(models),
            breaker=breaker,
            queue=queue,
        )


def _freeze(counters: Counters) -> ModelStats:
    return ModelStats(
        hits=counters.hits,
        misses=counters.misses,
        fills=counters.fills,
        invalidations=counters.invalidations,
        errors=counters.errors,
        lost=counters.lost,
        bypasses=MappingProxyType({key.value: n for key, n in counters.bypasses.items()}),
    )
