"""What a command works on: a store, a database, models; each from an option or the environment.

Problems with what was typed are usage errors (exit code 2); a store or a database that does not
answer is a problem found (exit code 1).
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeVar

import msgspec
import typer
from sqlalchemy import Engine, create_engine, inspect
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Mapper

from sqlmodel_cache import _state
from sqlmodel_cache.config import Configuration
from sqlmodel_cache.errors import CacheError, ConfigurationError
from sqlmodel_cache.orm import _sqlalchemy, activation
from sqlmodel_cache.transport.failures import explain, is_store_failure
from sqlmodel_cache.transport.url import open_url

T = TypeVar("T")

DEFAULT_PREFIX: Final = "sqlmodelcache"

Url = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="SQLMODEL_CACHE_URL", help="Redis, as given to configure().",
        show_envvar=True,
    ),
]  # fmt: skip
Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix", envvar="SQLMODEL_CACHE_KEY_PREFIX", help="The deployment's key_prefix."
    ),
]
Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        envvar="SQLMODEL_CACHE_DATABASE_URL",
        help="The database: a URL of SQLAlchemy, or module:engine.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="As module:Class, app.models:Hero.")]


@contextmanager
def problems() -> Iterator[None]:
    """Turn what goes wrong into one line on stderr and an exit code."""
    try:
        yield
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from None
    except CacheError as error:
        fail(str(error))
    except SQLAlchemyError as error:
        fail(f"the database failed: {str(error).splitlines()[0]}")
    except Exception as error:
        if not is_store_failure(error):
            raise
        fail(f"the store cannot be used: {explain(error)}")


def fail(message: str) -> NoReturn:
    """Print one line on stderr and end with exit code 1."""
    typer.echo(message, err=True)
    raise typer.Exit(1) from None


@contextmanager
def opened(url: str | None) -> Iterator[Any]:
    """Open a store for commands that need no models."""
    with opened_pair(url) as pair:
        yield pair.sync


@contextmanager
def opened_pair(url: str | None) -> Iterator[Any]:
    """Open what has both, that store and lines to listen on."""
    if not url:
        raise typer.BadParameter("say which Redis: --url, or SQLMODEL_CACHE_URL")
    pair = open_url(url)
    if not pair.blocks:
        raise typer.BadParameter("memory:// lives inside one process: nobody else can look at it")
    try:
        yield pair
    finally:
        pair.close()


def configure(url: str | None, prefix: str | None) -> None:
    """Configure this process as the application would, with what was said on top of it.

    Call it when the application's modules are imported: they may have called `configure()`.
    """
    base: Configuration | None = None if _state.active is None else _state.get_config()
    if base is None and not url:
        raise typer.BadParameter("say which Redis: --url, or SQLMODEL_CACHE_URL")
    changes: dict[str, Any] = {"publish_stats": False, "enabled": True}
    if url:
        changes["transport"] = url
    if prefix:
        changes["key_prefix"] = prefix
    # A command commits nothing, so it needs no kind of consistency; some models do.
    if base is None:
        changes["consistency"] = "eventual"
    made = Configuration(**changes) if base is None else replace(base, **changes)
    activation.activate(made)
    if not _state.active.stores.full or not _state.active.stores.blocks:
        raise typer.BadParameter("this store lives inside one process: nobody else can look at it")


def load(path: str) -> Any:
    """Import `module:attribute`; modules of the current folder are found."""
    name, separator, attribute = path.partition(":")
    found = load_module(name)
    if not separator:
        raise typer.BadParameter(f"{path!r}: write module:name, for example app.models:Hero")
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise typer.BadParameter(f"{name} has no {attribute!r}") from None
    return found


def load_module(name: str) -> Any:
    """Import a module."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise typer.BadParameter(f"{name!r} cannot be imported: {error}") from None


def load_model(path: str) -> type[Any]:
    """Import a mapped class."""
    found = load(path)
    if not isinstance(found, type) or not isinstance(inspect(found, raiseerr=False), Mapper):
        raise typer.BadParameter(f"{path} is no mapped class")
    return found


def keys_of(model: type[Any], texts: list[str]) -> list[Any]:
    """Return primary keys as they were typed: `1`, `deadpond`, or JSON `[1, "x"]` if composite."""
    return [_key(inspect(model), text) for text in texts]


def _key(mapper: Mapper[Any], text: str) -> Any:
    columns = mapper.primary_key
    parts: Any = [text]
    if len(columns) > 1:
        try:
            parts = json.loads(text)
        except ValueError:
            parts = []
        if not isinstance(parts, list) or len(parts) != len(columns):
            names = ", ".join(str(column.key) for column in columns)
            raise typer.BadParameter(f"a key of {mapper.class_.__name__} is a JSON list: [{names}]")
    values = []
    for column, part in zip(columns, parts, strict=True):
        try:
            wanted = column.type.python_type
        except NotImplementedError:
            wanted = str
        try:
            values.append(msgspec.convert(part, wanted, strict=False))
        except (msgspec.ValidationError, TypeError):
            raise typer.BadParameter(f"{part!r} is no {wanted.__name__} ({column.key})") from None
    return values[0] if len(values) == 1 else tuple(values)


def in_database(database: str | None, work: Callable[[Engine], T]) -> T:
    """Run `work` with an engine; inside a greenlet if its driver is async."""
    if not database:
        raise typer.BadParameter(
            "entries are named by their database: --database, or SQLMODEL_CACHE_DATABASE_URL"
        )
    try:
        engine = create_engine(database) if "://" in database else load(database)
    except (ArgumentError, ModuleNotFoundError) as error:
        raise typer.BadParameter(f"--database: {error}") from None
    engine = getattr(engine, "sync_engine", engine)
    if not isinstance(engine, Engine):
        raise typer.BadParameter(f"--database: {database} is no engine")
    _check_file(engine)

    def run() -> T:
        try:
            return work(engine)
        finally:
            engine.dispose()

    if not engine.dialect.is_async:
        return run()
    result: T = asyncio.run(_sqlalchemy.greenlet_spawn(run))
    return result


def _check_file(engine: Engine) -> None:
    """Refuse a SQLite file that is not there: opening it would make another, empty database."""
    name = engine.url.database
    if engine.dialect.name != "sqlite" or not name or name == ":memory:" or name[:5] == "file:":
        return
    if not Path(name).exists():
        fail(f"the database failed: there is no file {name}")
