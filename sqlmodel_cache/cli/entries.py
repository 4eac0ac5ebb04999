"""`models`, `inspect`, `warm`, `invalidate`, `clear`: what is stored, and making it otherwise."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer
from sqlalchemy import Engine, inspect, select
from sqlalchemy.orm import Session

from sqlmodel_cache import _state
from sqlmodel_cache.api import SQLModelCache
from sqlmodel_cache.causes import CAUSES
from sqlmodel_cache.cli import show
from sqlmodel_cache.cli.target import (
    DEFAULT_PREFIX,
    Database,
    Json,
    Model,
    Prefix,
    Url,
    Yes,
    configure,
    fail,
    in_database,
    keys_of,
    load_model,
    load_module,
    opened,
    problems,
)
from sqlmodel_cache.errors import ConfigurationError
from sqlmodel_cache.keys import LAYOUT, Shard, shard_called
from sqlmodel_cache.orm import bridge
from sqlmodel_cache.orm.model.plan import Plan, plan_of, plans
from sqlmodel_cache.orm.operate.inspection import EntryReport, look
from sqlmodel_cache.orm.reads.many import get_many
from sqlmodel_cache.orm.writes import explicit
from sqlmodel_cache.protocol.ops import Release
from sqlmodel_cache.protocol.read import new_token
from sqlmodel_cache.stats import ModelStats

Keys = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY]...", help="Primary keys; composite ones as JSON: '[1, \"x\"]'."),
]
Modules = Annotated[list[str], typer.Argument(metavar="MODULE...", help="Modules to import.")]

_GLOB = re.compile(r"([*?\[\]\\])")


def models(modules: Modules, as_json: Json = False) -> None:
    """List the cached models of some modules, and why one is never answered from the cache."""
    with problems():
        for module in modules:
            load_module(module)
        rows = [_described(plan) for plan in plans()]
    if as_json:
        return show.print_json(rows)
    columns = ("model", "table", "ttl", "negative_ttl", "never cached because")
    lines = (["-" if one is None else one for one in row.values()] for row in rows)
    return show.console().print(show.table(f"{len(rows)} cached models", columns, lines))


def _described(plan: Plan) -> dict[str, Any]:
    return {
        "model": plan.name,
        "table": plan.table,
        "ttl": plan.config.ttl,
        "negative_ttl": plan.config.negative_ttl,
        "blocked": None if plan.blocked is None else CAUSES[plan.blocked].why,
    }


def inspect_entry(
    model: Model,
    key: Annotated[str, typer.Argument(help="A primary key; a composite one as JSON.")],
    url: Url = None,
    database: Database = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Show what is stored of one row: values, age, life left, epoch, fence, and who stored it.

    Changes nothing. Prints the row's values: mind who looks on.
    """
    with problems():
        cls = load_model(model)
        configure(url, prefix)
        (ident,) = keys_of(cls, [key])
        _check_secret(cls, changes=False)
        found = in_database(database, lambda engine: _look(cls, ident, engine))
    for namespace, report in found:
        plain = _plain(namespace, report)
        if as_json:
            show.print_json(plain)
        else:
            out = show.console()
            out.print(show.pairs(f"{cls.__name__} {key}: {report}", plain | {"values": ""}))
            if report.values is not None:
                out.print(show.pairs("Values", {k: repr(v) for k, v in report.values.items()}))


def _check_secret(cls: type[Any], *, changes: bool = True) -> None:
    """Raise ConfigurationError where others hide the keys of `cls` by another secret.

    Call it before any lookup: once the store knows of another secret, nobody hits any more. Nor
    need it know that of one who changes nothing.
    """
    if not _plan(cls).config.hash_keys:
        return
    (cache,) = _state.live()
    foreign = bridge.run(cache.stores, cache.switch.foreign_secrets())
    if foreign:
        raise ConfigurationError(
            f"the keys of {cls.__name__} are hidden by another key_secret"
            f" ({', '.join(sorted(foreign))}): set SQLMODEL_CACHE_KEY_SECRET to the application's"
        )
    if not changes:
        cache.switch.agrees = True


def _look(cls: type[Any], ident: Any, engine: Engine) -> list[tuple[str, EntryReport]]:
    found = list(explicit.places(cls, ident, engine))
    plan = plan_of(cls)
    assert plan is not None, "places() refuses a class without one"
    return [
        (namespace, bridge.run(cache.stores, look(site.reader(namespace, plan), entry)))
        for cache, dialect, namespace, entry in found
        for site in [cache.sites.of(dialect)]
    ]


def _plain(namespace: str, report: EntryReport) -> dict[str, Any]:
    return {
        "key": report.key,
        "namespace": namespace,
        "present": report.present,
        "usable": report.usable,
        "negative": report.negative,
        "age": report.age,
        "ttl_left": report.ttl_left,
        "epoch_current": report.epoch_current,
        "fenced": report.fenced,
        "leased": report.leased,
        "filled_by": None if report.filled_by is None else str(report.filled_by),
        "values": None if report.values is None else dict(report.values),
    }


def warm(
    model: Model,
    keys: Keys = None,
    url: Url = None,
    database: Database = None,
    prefix: Prefix = None,
    as_json: Json = False,
    limit: Annotated[int, typer.Option(min=1, help="How many rows, where no key is given.")] = 1000,
) -> None:
    """Read rows through the cache, so that the next reader finds them there."""
    with problems():
        cls = load_model(model)
        configure(url, prefix)
        name = _plan(cls).name
        wanted = keys_of(cls, keys or [])
        _check_secret(cls)
        rows = in_database(database, lambda engine: _warm(cls, wanted, limit, engine))
        every = SQLModelCache.stats()
        counts = every.models.get(name, ModelStats())  # not of what came along
    done = {"rows": rows, "stored": counts.fills, "there_already": counts.hits}
    if as_json:
        show.print_json(done)
    else:
        typer.echo(f"{rows} rows read: {counts.fills} stored, {counts.hits} were there already.")
        if every.bypasses:
            typer.echo(f"Not cached: {dict(every.bypasses)}")
    if every.errors:
        fail("the store did not answer, or not always: see `sqlmodel-cache doctor`")


def _plan(cls: type[Any]) -> Plan:
    plan = plan_of(cls)
    if plan is None:
        raise ConfigurationError(f"{cls.__name__} is not cached: it has no entries")
    return plan


def _warm(cls: type[Any], wanted: list[Any], limit: int, engine: Engine) -> int:
    columns = inspect(cls).primary_key
    with Session(engine) as session:
        if not wanted:
            found = session.execute(select(*columns).limit(limit)).all()
            wanted = [row[0] if len(columns) == 1 else tuple(row) for row in found]
    number = 0
    for start in range(0, len(wanted), 500):
        with Session(engine) as session:
            rows = get_many(session, cls, wanted[start : start + 500])
            number += sum(row is not None for row in rows)
    return number


def invalidate(
    model: Model,
    keys: Keys = None,
    url: Url = None,
    database: Database = None,
    prefix: Prefix = None,
    as_json: Json = False,
    yes: Yes = False,
) -> None:
    """Forget rows of a model in every process, or, without keys, the whole model."""
    with problems():
        cls = load_model(model)
        configure(url, prefix)
        idents = keys_of(cls, keys or [])
        what = f"{len(idents)} rows" if idents else "every row"
        _confirm(yes, f"Forget {what} of {cls.__name__}?")
        in_database(database, lambda engine: SQLModelCache.invalidate(cls, *idents, bind=engine))
    if as_json:
        show.print_json({"model": cls.__name__, "rows": len(idents) or None})
    else:
        typer.echo(f"Forgotten: {what} of {cls.__name__}.")


def purge(
    model: Model,
    keys: Keys = None,
    url: Url = None,
    database: Database = None,
    prefix: Prefix = None,
    as_json: Json = False,
    yes: Yes = False,
) -> None:
    """Remove the bytes of rows, or of a whole model, from the store; says how many values.

    Looks at every key under the prefix. A database is needed for rows only.
    """
    with problems():
        cls = load_model(model)
        configure(url, prefix)
        idents = keys_of(cls, keys or [])
        what = f"{len(idents)} rows" if idents else "every row"
        _confirm(yes, f"Remove {what} of {cls.__name__} from the store?")
        if idents:
            number = in_database(database, lambda e: SQLModelCache.purge(cls, *idents, bind=e))
        else:
            number = SQLModelCache.purge(cls)
    if as_json:
        show.print_json({"model": cls.__name__, "rows": len(idents) or None, "removed": number})
    else:
        typer.echo(f"Removed: {number} values of {cls.__name__}.")


def clear(url: Url = None, prefix: Prefix = None, as_json: Json = False, yes: Yes = False) -> None:
    """Forget every row of every model and database under the prefix."""
    with problems(), opened(url) as store:
        name = prefix or _prefix_in_use()
        _confirm(yes, f"Forget everything under the prefix {name!r}?")
        shards = _shards(store, name)
        store.perform(Release(new_token(), (), tuple(shards)))
    if as_json:
        show.print_json({"prefix": name, "shards": len(shards)})
    else:
        typer.echo(f"Forgotten: everything under {name!r} ({len(shards)} parts of models).")


def _shards(store: Any, prefix: str) -> list[Shard]:
    """Find the parts of models that have an epoch: without one no value of theirs is a hit."""
    pattern = _GLOB.sub(r"\\\1", f"{prefix}:{LAYOUT}:") + "{*}!epoch"
    heads: set[str] = set()
    cursor = b"0"
    while True:
        ((cursor, keys),) = store.execute(("SCAN", cursor, "MATCH", pattern, "COUNT", 1000))
        heads.update(key.decode().removesuffix("!epoch") for key in keys)
        if cursor == b"0":
            return [shard_called(head) for head in sorted(heads)]


def _prefix_in_use() -> str:
    return DEFAULT_PREFIX if _state.active is None else str(_state.active.config.key_prefix)


def _confirm(yes: bool, question: str) -> None:
    if not yes:
        typer.confirm(question, abort=True)
