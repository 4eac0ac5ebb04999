"""`SQLModelCache`: the one door."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal

from sqlmodel_cache import _state
from sqlmodel_cache.config import Configuration, Mode, Namespace, Packing
from sqlmodel_cache.events import Observer
from sqlmodel_cache.orm import activation, sessions
from sqlmodel_cache.orm.operate import erasing, switching
from sqlmodel_cache.orm.operate.explain import aexplain, explain
from sqlmodel_cache.orm.operate.explanation import Explanation
from sqlmodel_cache.orm.reads import options
from sqlmodel_cache.orm.writes import explicit
from sqlmodel_cache.stats import Stats

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


class SQLModelCache:
    """Application-level interface: configure once at start, everything else is automatic."""

    @classmethod
    def configure(
        cls,
        transport: Any,
        *,
        default_ttl: int = 300,
        key_prefix: str = "sqlmodelcache",
        enabled: bool = True,
        hook_sessions: bool = True,
        consistency: Literal["strict", "eventual"] = "strict",
        on_fence_failure: Literal["proceed", "abort"] = "proceed",
        namespace: Namespace | None = None,
        trust_orm_hooks: bool = False,
        converter: Any = None,
        observers: Sequence[Observer] = (),
        publish_stats: bool = False,
        mode: Mode = "on",
        sample: float = 1.0,
        verify: float = 0.0,
        max_ttl: int | None = None,
        snapshot_hits: bool = False,
        compress: Packing | None = None,
        key_secret: str | bytes | None = None,
    ) -> None:
        """Configure the library. A second call replaces the first.

        Args:
            transport: a URL (`"memory://"`, `"redis://..."`, `"rediss://..."`), one of our
                transports, or any object with `get`, `set` and `delete`, sync or async.
            default_ttl: seconds an entry lives where the model's `CacheConfig.ttl` is None.
            key_prefix: start of every key; different deployments on one Redis use different ones.
            enabled: False disables all caching, reads and invalidations.
            hook_sessions: False leaves reads of plain sessions alone; only sessions made by
                `cached_sessionmaker` are answered from the cache. Writes always invalidate.
            consistency: "strict" fences before each COMMIT; "eventual" only deletes after it.
            on_fence_failure: with the store out of reach at COMMIT, "proceed", or "abort" by
                rolling back and raising `FenceError`.
            namespace: a name, or a callable of the session, that replaces the database's own
                identity in keys (tenants, several URLs that cannot be told to be one database).
            trust_orm_hooks: True uses the cache although somebody listens to `do_orm_execute`,
                or to `after_begin` of its sessions.
            converter: a `cattrs.Converter` with hooks for column types of your own.
            observers: called with each event, see `sqlmodel_cache.events.Observer`.
            publish_stats: True starts a daemon thread that puts this process's counts into Redis
                every five seconds, for the command line.
            mode: "on"; "invalidate": writes invalidate, nobody reads or stores; "shadow": the
                database answers each read, and what the cache has is compared with it. A model's
                own mode comes first; `SQLMODEL_CACHE_MODE` limits both.
            sample: share of lookups that go by the mode, from 0 to 1; others use no cache.
            verify: share of hits, from 0 to 1, that the database answers too, as in shadow.
            max_ttl: seconds after which no entry is left, whatever model or call want; None: no
                limit.
            snapshot_hits: True gives transactions in REPEATABLE READ, and SQLite's, entries that
                were read before their snapshot began, by the store's clock. Nobody may set that
                clock forward and back again within one of them.
            compress: "lz4", "zstd" (extras of these names) or "zlib" packs rows of 512 bytes and
                more; a model's own setting comes first.
            key_secret: what models with `hash_keys` hide their keys by, the same in all
                processes; 16 characters or more. Never shown. None: SQLMODEL_CACHE_KEY_SECRET.

        Raises ConfigurationError for values that cannot work.
        """
        config = Configuration(
            transport,
            default_ttl,
            key_prefix,
            enabled,
            hook_sessions,
            consistency,
            on_fence_failure,
            namespace,
            trust_orm_hooks,
            converter,
            observers,
            publish_stats,
            mode,
            sample,
            verify,
            max_ttl,
            snapshot_hits,
            compress,
            key_secret,
        )
        activation.activate(config)

    @classmethod
    def get_config(cls) -> Configuration:
        """Return the active configuration; raises ConfigurationError if unconfigured."""
        return _state.get_config()

    @classmethod
    def reset(cls) -> None:
        """Clear the configuration and remove every listener. For tests. Idempotent."""
        activation.deactivate()

    @classmethod
    def bypass(cls) -> AbstractContextManager[None]:
        """Return a context inside which every lookup goes to the database."""
        return options.bypass()

    @classmethod
    def stats(cls, factory: Any = None) -> Stats:
        """Return the counts since `configure()`. Raises ConfigurationError if unconfigured.

        Args:
            factory: a `cached_sessionmaker(..., transport=...)`: the counts of the cache of its
                own. The sessions of one without a transport are counted with all others.
        """
        if factory is None:
            return explicit.active().stats()
        return sessions.cache_behind(factory).stats()

    @classmethod
    def explain(cls, session: Any, asked: Any, key: Any = None, /, **arguments: Any) -> Explanation:
        """Say why `session.get(asked, key, **arguments)` would use the cache, or would not.

        Of a `select()`, why `session.execute(asked, key, **arguments)` would, and which changes
        end its result; `key` are its parameters.

        Print the result, or look at its fields. Reads the store once and changes nothing: no
        flush, no fill, no count, and no connection is checked out. Raises ConfigurationError for
        what is no Session.
        """
        return explain(session, asked, key, **arguments)

    @classmethod
    async def aexplain(
        cls, session: AsyncSession, asked: Any, key: Any = None, /, **arguments: Any
    ) -> Explanation:
        """Like `explain`, for an `AsyncSession`."""
        return await aexplain(session, asked, key, **arguments)

    @classmethod
    def invalidate(cls, model: type, *keys: Any, bind: Any = None) -> None:
        """Forget rows of `model` by primary key, or all of them if no key is given.

        Args:
            model: a cached class.
            keys: primary keys, each as `session.get()` takes it.
            bind: an engine, connection or session of the database meant; by default every
                database that this process has used.

        Raises UnavailableError if the store cannot be asked, UnsupportedError if it cannot do
        this, ConfigurationError if the model is not cached or no database is known.
        """
        explicit.run(explicit.forget(model, keys, bind))

    @classmethod
    async def ainvalidate(cls, model: type, *keys: Any, bind: Any = None) -> None:
        """Like `invalidate`, for async transports; `bind` may be async too."""
        await explicit.arun(await explicit.ain(explicit.forget, model, keys, bind=bind))

    @classmethod
    def purge(cls, model: type, *keys: Any, bind: Any = None) -> int:
        """Remove the bytes of `model`, or of its rows with these keys; return how many values.

        For data-protection requests: `invalidate` makes entries unreadable and leaves them to
        their TTL. Looks at every key under the prefix, in all namespaces, so it takes as long as
        the store has keys. Delete the row first: a row that is there is stored again when read.

        Args:
            model: a cached class.
            keys: primary keys, each as `session.get()` takes it; none: all rows.
            bind: as for `invalidate`; needed with keys only.

        Raises as `invalidate` does; UnsupportedError for a transport that cannot look through its
        keys.
        """
        return erasing.purge(model, keys, bind)

    @classmethod
    async def apurge(cls, model: type, *keys: Any, bind: Any = None) -> int:
        """Like `purge`, for async transports; `bind` may be async too."""
        return await erasing.apurge(model, keys, bind)

    @classmethod
    def clear(cls, *, bind: Any = None) -> None:
        """Forget every row of every cached model. Raises as `invalidate` does."""
        explicit.run(explicit.forget_all(bind))

    @classmethod
    async def aclear(cls, *, bind: Any = None) -> None:
        """Like `clear`, for async transports; `bind` may be async too."""
        await explicit.arun(await explicit.ain(explicit.forget_all, bind=bind))

    @classmethod
    def switch_off(cls, *models: type) -> None:
        """Stop reads from the cache in every process of the deployment, within seconds.

        Args:
            models: cached classes, with everything that lives in their tables; none: everything.

        Writes go on invalidating. Each process looks every two seconds, with a lookup of its own.
        Lasts until `switch_on`, or until the store loses it.

        Raises UnavailableError if the store cannot be asked: it says what to do then.
        UnsupportedError if it is one with only `get`, `set` and `delete`.
        """
        switching.switch(models, off=True)

    @classmethod
    def switch_on(cls, *models: type) -> None:
        """Take `switch_off` back. What was off begins empty: its epochs are renewed.

        Args:
            models: cached classes; none: all that is off. A model that is off with everything
                stays so. Raises as `switch_off` does.
        """
        switching.switch(models, off=False)

    @classmethod
    async def aswitch_off(cls, *models: type) -> None:
        """Like `switch_off`, for async transports."""
        await switching.aswitch(models, off=True)

    @classmethod
    async def aswitch_on(cls, *models: type) -> None:
        """Like `switch_on`, for async transports."""
        await switching.aswitch(models, off=False)


activation.guard()
