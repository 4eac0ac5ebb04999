"""Each bypass in words: why it happens, and what to do about it."""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlmodel_cache.events import Bypass


class Cause(NamedTuple):
    """`why` completes "the cache is not used: ..."; `remedy` is empty where all is as it should."""

    why: str
    remedy: str = ""


CAUSES: Final[dict[Bypass, Cause]] = {
    Bypass.DISABLED: Cause("configure(enabled=False)", "configure with enabled=True"),
    Bypass.HOOKS_OFF: Cause(
        "this is a plain session, and hook_sessions=False", "use a cached_sessionmaker"
    ),
    Bypass.BLOCK: Cause("the call is inside SQLModelCache.bypass()"),
    Bypass.OPTION: Cause("the call, session, factory or engine says cache=False"),
    Bypass.MODEL_OFF: Cause(
        "the model's CacheConfig has enabled=False", "give the class a config of its own"
    ),
    Bypass.EAGER: Cause(
        "its eager relationships cannot be loaded one by one with the same outcome as by a load",
        "make one of them lazy='select'; docs/configuration.md has the list",
    ),
    Bypass.EXPRESSION: Cause(
        "a column_property() is a SQL expression", "make it deferred=True, or a plain query"
    ),
    Bypass.SELECTABLE: Cause("the class is mapped to something that is not a table"),
    Bypass.ALWAYS_REFRESH: Cause("the mapper has always_refresh=True", "remove it"),
    Bypass.LOADER_OPTIONS: Cause("the call has loader options that change more than loaders"),
    Bypass.POPULATE_EXISTING: Cause("the call has populate_existing: it wants fresh values"),
    Bypass.FOR_UPDATE: Cause("the call has with_for_update: it takes a lock"),
    Bypass.IDENTITY_TOKEN: Cause("the call has an identity_token: it names a shard"),
    Bypass.ORM_HOOK: Cause(
        "somebody listens to do_orm_execute or after_begin, or the session's class has an execute()"
        " of its own, and may change what a load returns",
        "configure(trust_orm_hooks=True), if neither ever changes a get",
    ),
    Bypass.SESSION_CLASS: Cause("the session finds identities or engines in a way of its own"),
    Bypass.INACTIVE: Cause("the session's transaction waits for a rollback, or is over"),
    Bypass.TOUCHED: Cause(
        "this connection has written the row, or others with it, and has not ended its transaction"
    ),
    Bypass.SNAPSHOT: Cause(
        "the transaction reads from a snapshot, which must see nothing newer",
        "read before the first statement, use READ COMMITTED, close half-read results, or"
        " configure(snapshot_hits=True), which gives what was read before the snapshot began",
    ),
    Bypass.ISOLATION: Cause(
        "the isolation level is SERIALIZABLE, READ UNCOMMITTED, or was set by SQL text",
        "use READ COMMITTED",
    ),
    Bypass.SETTINGS: Cause(
        "SET ROLE, SET search_path or the like was sent on this connection",
        "set it in the engine's URL, or give a namespace",
    ),
    Bypass.NAMESPACE: Cause(
        "it cannot be told which database this is", "pass namespace= to configure()"
    ),
    Bypass.KEY: Cause(
        "the key does not fit the column's type without loss", "pass a key of the column's type"
    ),
    Bypass.TRANSPORT: Cause(
        "the transport is async only, and this is a plain session", "configure a URL"
    ),
    Bypass.BREAKER: Cause("the store failed a moment ago and is left alone", "look at the store"),
    Bypass.QUEUED: Cause(
        "this process wrote the row, and the store has not been told yet", "look at the store"
    ),
    Bypass.INVALIDATE: Cause(
        "mode='invalidate': this process only invalidates", "set mode='shadow' or mode='on'"
    ),
    Bypass.SHADOW: Cause(
        "mode='shadow': the database answers, and the cache is compared with it",
        "set mode='on' when the counts are as you want them",
    ),
    Bypass.SWITCHED_OFF: Cause(
        "somebody switched the cache off for the whole deployment",
        "SQLModelCache.switch_on(), or the command `sqlmodel-cache on`",
    ),
    Bypass.KEY_SECRET: Cause(
        "another process hides the keys of this model by another key_secret",
        "configure the same everywhere; once no process has the former one, SQLModelCache.purge()"
        " the model",
    ),
    Bypass.SAMPLE: Cause(
        "it was not one of the share of lookups that `sample` lets in", "raise sample"
    ),
    Bypass.QUERY: Cause(
        "a model or table of this select() does not cache queries",
        'set CacheConfig(queries="asked") on each, or remove the option cache=True',
    ),
    Bypass.STATEMENT: Cause(
        "it cannot be told what the result of this select() depends on, or it has options that"
        " change its result",
        "the log says at INFO which part; docs/queries.md has the list",
    ),
}
