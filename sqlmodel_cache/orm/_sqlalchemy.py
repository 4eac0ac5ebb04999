"""Every private name of SQLAlchemy that this library touches, and nothing else.

Checked on 2.0.58 and 2.1.9; `tests/test_sqlalchemy_private.py` says when one of them moves. Where
a public way exists and costs nothing, it is used instead and does not stand here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sqlalchemy import LABEL_STYLE_DEFAULT, FromClause, util
from sqlalchemy.orm import InstanceState, Mapper, Session
from sqlalchemy.orm.context import QueryContext
from sqlalchemy.orm.exc import UnmappedColumnError
from sqlalchemy.orm.mapper import _all_registries
from sqlalchemy.orm.session import SessionTransactionState
from sqlalchemy.util import concurrency

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# 2.1 spells it await_; 2.0 has await_only; both have it under one of these names.
await_ = getattr(util, "await_", None) or util.await_only


# CPython 3.11 takes longer to find a member by way of its class than to call a function.
_ACTIVE = SessionTransactionState.ACTIVE


def _never() -> bool:
    return False


# 2.1 does not install greenlet; without it, its own in_greenlet() raises.
in_greenlet: Callable[[], bool] = concurrency.in_greenlet if find_spec("greenlet") else _never
greenlet_spawn = concurrency.greenlet_spawn


def autobegin(session: Session) -> bool:
    """Begin the session's transaction as a load does: no connection is checked out.

    False if the transaction cannot go on: a load would raise.
    """
    transaction = session._transaction
    if transaction is None:
        transaction = session._autobegin_t()
    return transaction._state is _ACTIVE


def autoflush(session: Session) -> None:
    """Flush if the session is set to and has something to flush, as a load does."""
    if session.autoflush and not session._flushing and not session._is_clean():
        session._autoflush()


def begins_quietly(session: Session) -> bool:
    """Tell whether a load now would flush nothing, and begin without anybody's listener."""
    if session.autoflush and not session._is_clean():
        return False
    return session._transaction is not None or not session.dispatch.after_transaction_create


def connection_of(session: Session, bind: Any) -> Connection | None:
    """Return the connection on which `session` already runs a transaction against `bind`."""
    transaction = session._transaction
    while transaction is not None:
        found = transaction._connections.get(bind)
        if found is not None:
            connection: Connection = found[0]
            return connection
        transaction = transaction._parent
    return None


def uses_one_connection(session: Session) -> bool:
    """Tell whether all of a session's transaction runs on one connection so far."""
    transaction = session._transaction
    used: set[int] = set()
    while transaction is not None:
        used.update(id(found[0]) for found in transaction._connections.values())
        transaction = transaction._parent
    return len(used) == 1


def finds_identities_itself(session_class: type[Session]) -> bool:
    """Tell whether a Session subclass overrides how identities are looked up (sharding)."""
    return (
        session_class._identity_lookup is not Session._identity_lookup
        or session_class._get_impl is not Session._get_impl
    )


def finds_identities_as(session: Session, model: type[Session]) -> bool:
    """Tell whether `session` looks identities up just as sessions of class `model` do."""
    own = type(session)
    return (
        issubclass(own, model)
        and own._identity_lookup is model._identity_lookup
        and own._get_impl is model._get_impl
    )


def knows(session: Session, key: tuple[Any, ...]) -> bool:
    """Tell whether the identity map has `key`; also for a moment after its instance died."""
    return key in session.identity_map._dict  # four times as fast as without `_dict`


def is_pending(session: Session, identity_class: type[Any], pk: tuple[Any, ...]) -> bool:
    """Tell whether a load of this identity would flush its row first. Loads nothing."""
    return bool(session._new and session.autoflush) and any(
        state.mapper._identity_class is identity_class
        and tuple(state.mapper.primary_key_from_instance(instance)) == pk
        for state, instance in session._new.items()
    )


def attach(session: Session, state: InstanceState[Any], key: tuple[Any, ...]) -> None:
    """Make `state` persistent in `session` under `key`, as loading.py does for a new row."""
    state.key = key
    state.session_id = session.hash_key
    if key[2] is not None:
        state.identity_token = key[2]
    session.identity_map._add_unpresent(state, key)


def commit_state(session: Session, state: InstanceState[Any]) -> None:
    """Forget changes that load events made, as loading.py does after them."""
    if state.modified:
        state._commit_all(state.dict, session.identity_map)


def identity_class(mapper: Mapper[Any]) -> type[Any]:
    """Return the class that identity keys of this mapper carry."""
    found: type[Any] = mapper._identity_class
    return found


def synonyms_of_pk(mapper: Mapper[Any]) -> dict[str, str]:
    """Return synonym name -> primary-key attribute name, as `Session.get` accepts them."""
    found: dict[str, str] = mapper._pk_synonyms
    return found


def mapper_path(mapper: Mapper[Any]) -> Any:
    """Return the load path that a `select()` of this mapper leaves on its instances."""
    return mapper._path_registry


def on_connect_isolation_level(dialect: Any) -> str | None:
    """Return the level given to `create_engine(isolation_level=...)`, if any."""
    level: str | None = dialect._on_connect_isolation_level
    return level


def creator_is_foreign(engine: Any) -> bool:
    """Tell whether connections come from `creator=` or a `do_connect` listener."""
    maker = getattr(engine.pool._creator, "__module__", "")
    return bool(engine.dialect.dispatch.do_connect) or maker != "sqlalchemy.engine.create"


def all_mappers() -> Iterator[Mapper[Any]]:
    """Yield every mapper of this process, configured or not."""
    for registry in _all_registries():
        for manager in list(registry._managers):
            # A class whose mapping failed stays behind, without a mapper or with half of one.
            if manager.is_mapped and hasattr(manager.mapper, "primary_key"):
                yield manager.mapper


def load_listeners_of_every_mapper(mapper: Mapper[Any]) -> Sequence[Any]:
    """Return the `load` listeners that `mapper` shares with all others, in their order."""
    line: Sequence[Any] = mapper.class_manager.dispatch.load.parent_listeners
    return line


def sole_load_listener(mapper: Mapper[Any]) -> Any:
    """Return the one listener to `load` of a class, None if there is none or are several."""
    load = mapper.class_manager.dispatch.load
    own = load.listeners
    return own[0] if len(own) == 1 and not load.parent_listeners else None


def is_unit_of_work(context: Any) -> bool:
    """Tell whether the ORM's persistence layer emits this statement.

    It compiles into a cache of its own, the mapper's, and is the only one to do so.
    """
    return isinstance(context.execution_options.get("compiled_cache"), util.LRUCache)


def prefixes_of(insert: Any) -> list[str]:
    """Return what stands between INSERT and INTO (OR REPLACE, IGNORE, ...), in capitals."""
    return [str(prefix).upper() for prefix, _ in insert._prefixes]


def conflict_clauses(insert: Any) -> list[Any]:
    """Return the ON CONFLICT or ON DUPLICATE KEY clauses of an INSERT; 2.1 allows several."""
    clause = insert._post_values_clause
    if clause is None:
        return []
    return list(getattr(clause, "clauses", None) or [clause])


def upserted(clause: Any, table: Any) -> list[tuple[str, Any]]:
    """Return (column name, value) for what a conflict clause sets in rows of `table` that exist."""
    # Of ON CONFLICT, pairs or a dict; of ON DUPLICATE KEY.
    sets: Any = getattr(clause, "update_values_to_set", None) or getattr(clause, "update", ())
    return [(_name_in(table, key), value) for key, value in dict(sets).items()]


def conflict_target(clause: Any) -> tuple[frozenset[str], str | None] | None:
    """Return the columns, or the name of the constraint, of ON CONFLICT; None if it has neither."""
    if getattr(clause, "inferred_target_whereclause", None) is not None:
        return None  # a partial index
    elements = getattr(clause, "inferred_target_elements", None) or ()
    name: str | None = getattr(clause, "constraint_target", None)
    if not elements and name is None:
        return None
    return frozenset(str(getattr(each, "name", each)) for each in elements), name


def rows_of_values(insert: Any) -> int:
    """Return how many rows `insert().values([...])` has; 0 if it has no such list."""
    return sum(len(rows) for rows in insert._multi_values)


def set_columns(update: Any, compiled: Any) -> set[str] | None:
    """Return the names of columns that an UPDATE sets; None: cannot be told."""
    ordered = getattr(update, "_ordered_values", None)  # 2.0; 2.1 keeps the order in _values
    if ordered:
        return None
    given = (_name_in(update.table, key) for key in compiled.column_keys or ())
    return {*values_given(update), *given}


def values_given(dml: Any) -> dict[str, Any]:
    """Return what `values()` of one row says of its own table, by name. 2.0's order is not seen."""
    own = {key: v for key, v in (dml._values or {}).items() if not _is_other(dml.table, key)}
    return {_name_in(dml.table, key): value for key, value in own.items()}


def _name_in(table: Any, key: Any) -> str:
    """Return what a column is called in the database; statements say a Column or its `key`."""
    column = table.columns.get(key) if isinstance(key, str) else key
    return str(getattr(column, "name", key))


def other_tables_set(update: Any, table: Any) -> list[Any]:
    """Return the tables besides its own of which an UPDATE sets columns (MySQL, MariaDB)."""
    ordered = getattr(update, "_ordered_values", None)
    keys = [key for key, _ in ordered] if ordered else update._values or ()
    return [key.table for key in keys if _is_other(table, key)]


def _is_other(table: Any, key: Any) -> bool:
    """Tell whether a column that is set is another table's; it may have the same name."""
    own = getattr(table, "fullname", None)
    return own is not None and getattr(getattr(key, "table", None), "fullname", own) != own


_OF_MERGE = {"identity_token", "options"}


def is_merge(arguments: Mapping[str, Any]) -> bool:
    """Tell whether these arguments of `Session.get` are those that `Session.merge` gives it.

    It names just these two; `AsyncSession.get` names them among others.
    """
    return arguments.keys() == _OF_MERGE


# -- what a select() says ------------------------------------------------------------------------


def subject_of(statement: Any) -> Any:
    """Return the mapper or alias that the ORM takes a statement for, None for Core."""
    return statement._propagate_attrs.get("plugin_subject")


def is_get(options: Mapping[str, Any]) -> bool:
    """Tell whether these are the execution options of a statement of a plain `Session.get`.

    Its row is fetched, and its cursor closed, before anybody sees anything of either.
    """
    return options.get("_sa_orm_load_options") is QueryContext.default_load_options


def is_internal(options: Mapping[str, Any]) -> bool:
    """Tell whether these are the ORM's own: of a get, a refresh, a lazy load or a `Query`."""
    return "_sa_orm_load_options" in options or "sa_top_level_orm_context" in options


# What a `select(entity).where(...)` has in its own dictionary, and what a run of it leaves there.
# Whatever else is asked for (order, limit, joins, options, locks, hints) is set there too.
_PLAIN_SELECT = frozenset(
    {
        "_propagate_attrs",
        "_raw_columns",
        "_where_criteria",
        "_label_style",
        "_execution_options",
        "_compile_options",
        "_is_clone_of",
        "dialect_options",
        "_generate_cache_key",
        "_memoized_keys",
        "_all_selected_columns",
        "selected_columns",
    }
)


def plain_criteria(statement: Any, mapper: Mapper[Any]) -> Sequence[Any] | None:
    """Return the WHERE of a statement that is `select(entity).where(...)` and nothing else.

    None for any other. `mapper` is the entity's.
    """
    said = vars(statement)
    if not said.keys() <= _PLAIN_SELECT:
        return None
    columns = said["_raw_columns"]
    if (
        len(columns) != 1
        or said.get("_label_style", LABEL_STYLE_DEFAULT) is not LABEL_STYLE_DEFAULT
    ):
        return None
    (entity,) = columns
    if not isinstance(entity, FromClause) or entity._annotations.get("parententity") is not mapper:
        return None
    options = said.get("_compile_options", type)
    if said.get("dialect_options") or not (isinstance(options, type) or not vars(options)):
        return None
    criteria: Sequence[Any] = said.get("_where_criteria", ())
    return criteria


def attribute_of(column: Any, mapper: Mapper[Any]) -> str | None:
    """Return the name of the mapper's attribute that a column in a WHERE stands for, if any."""
    annotations = column._annotations
    if annotations:
        # An alias or another class of the hierarchy has another entity.
        if annotations.get("parententity") is not mapper:
            return None
        name: str | None = annotations.get("proxy_key")
        return name
    try:
        return mapper.get_property_by_column(column).key
    except UnmappedColumnError:
        return None
