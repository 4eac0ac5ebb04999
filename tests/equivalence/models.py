"""Blueprint -> mapped classes, in a registry of their own that is disposed of afterwards."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import sqlalchemy
from pydantic import PrivateAttr
from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, Integer, String, Table
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import MutableComposite
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    column_property,
    composite,
    mapped_column,
    reconstructor,
    registry,
    relationship,
    synonym,
    validates,
)
from sqlmodel import Field, SQLModel

from sqlmodel_cache import CacheConfig
from tests.equivalence.blueprints import KEYS, Blueprint, ColumnPlan
from tests.equivalence.kinds import KINDS

# Where generated classes can be found by pickle, while they live.
_HERE = sys.modules[__name__]
NAMES = ("Base", "Sub", "SubSub", "Sibling")


@dataclasses.dataclass
class Point:
    """A composite of two columns."""

    x: int | None
    y: str | None


@dataclasses.dataclass
class MutablePoint(MutableComposite):
    """The same, telling its owner of changes."""

    x: int | None
    y: str | None

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        self.changed()


@dataclasses.dataclass
class Models:
    """Mapped classes (1 or 4 of them), their registry, and the log their hooks write."""

    classes: tuple[type[Any], ...]
    registry: Any
    log: list[Any]

    def dispose(self) -> None:
        """Unmap everything."""
        self.registry.dispose()
        for name in [*NAMES, "Parent"]:
            _HERE.__dict__.pop(f"Generated{name}", None)


def build(blueprint: Blueprint) -> Models:
    """Make the classes of a blueprint. Every one is cached by an inherited `__cache_config__`."""
    models = Models((), None, [])
    make = {
        "declarative": _declarative,
        "dataclass": _declarative,
        "imperative": _imperative,
        "sqlmodel": _sqlmodel,
    }[blueprint.style]
    try:
        make(blueprint, models)
        for cls in models.classes:
            setattr(_HERE, cls.__name__, cls)
        models.registry.configure()
    except BaseException:
        models.dispose()
        raise
    return models


def column_of(plan: ColumnPlan) -> Column[Any]:
    """Return the plain column of a plan."""
    name = f"db_{plan.name}" if plan.renamed else plan.name
    return Column(name, KINDS[plan.kind].type(), nullable=plan.nullable)


def property_settings(plan: ColumnPlan) -> dict[str, Any]:
    """Return what `mapped_column` and `column_property` are told beside the column."""
    settings: dict[str, Any] = {}
    if plan.deferred:
        settings["deferred"] = True
    if plan.deferred == "group":
        settings["deferred_group"] = "group"
    if plan.deferred == "raise":
        settings["deferred_raiseload"] = True
    if plan.active_history:
        settings["active_history"] = True
    return settings


def _extra_columns(blueprint: Blueprint) -> dict[str, Column[Any]]:
    """Return the columns that features need beside the generated ones."""
    extra: dict[str, Column[Any]] = {}
    if "version" in blueprint.features:
        extra["version"] = Column("version", Integer, nullable=False)
    for feature, letter in _COMPOSITES.items():
        if feature in blueprint.features:
            extra[f"{letter}x"] = Column(f"{letter}x", Integer)
            extra[f"{letter}y"] = Column(f"{letter}y", String)
    if "parent" in blueprint.features:
        extra["parent_id"] = Column("parent_id", ForeignKey("parent.id"))
    return extra


_COMPOSITES = {"composite": "p", "mutable composite": "q", "deferred composite": "r"}


def _keys(blueprint: Blueprint) -> dict[str, Column[Any]]:
    return {
        f"k{number}": Column(f"k{number}", KEYS[name][0](), primary_key=True, autoincrement=False)
        for number, name in enumerate(blueprint.keys)
    }


def _table_arguments(blueprint: Blueprint, level: int) -> tuple[Any, ...]:
    if blueprint.inheritance != "joined" or level == 0:
        return ()
    above = {1: "base", 2: "sub", 3: "base"}[level]
    names = [f"k{number}" for number in range(len(blueprint.keys))]
    return (ForeignKeyConstraint(names, [f"{above}.{name}" for name in names]),)


def _hooks(blueprint: Blueprint, log: list[Any]) -> dict[str, Callable[..., Any]]:
    """Return the methods that features put on the base class."""
    found: dict[str, Any] = {}
    first = blueprint.columns[0]
    if "hybrid" in blueprint.features:

        def hybrid(self: Any) -> Any:
            return ("hybrid", getattr(self, first.name))

        found["hybrid"] = hybrid_property(hybrid)
    if "validator" in blueprint.features:

        @validates(first.name)
        def validate(self: Any, key: str, value: Any) -> Any:
            log.append(("validated", key))
            return value

        found["validate"] = validate
    if "reconstructor" in blueprint.features:

        @reconstructor
        def reconstruct(self: Any) -> None:
            log.append(("reconstructed", sorted(set(self.__dict__) - {"_sa_instance_state"})))

        found["reconstruct"] = reconstruct
    return found


def _mapper_arguments(blueprint: Blueprint, level: int, version: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if version is not None and level == 0:
        arguments["version_id_col"] = version
    if blueprint.inheritance == "concrete":
        return arguments | ({"concrete": True} if level else {})
    if blueprint.inheritance:
        arguments["polymorphic_identity"] = NAMES[level]
        if level == 0:
            arguments["polymorphic_on"] = "kind"
            if blueprint.polymorphic == "with":
                arguments["with_polymorphic"] = "*"
        elif blueprint.polymorphic == "inline":
            arguments["polymorphic_load"] = "inline"
    return arguments


def _own_columns(blueprint: Blueprint, level: int) -> tuple[ColumnPlan, ...]:
    """Return the columns that the class at `level` adds."""
    if blueprint.inheritance == "concrete":
        return blueprint.all_columns(level)
    parent = {
        0: (),
        1: blueprint.all_columns(0),
        2: blueprint.all_columns(1),
        3: blueprint.all_columns(0),
    }[level]
    return tuple(plan for plan in blueprint.all_columns(level) if plan not in parent)


def _has_table(blueprint: Blueprint, level: int) -> bool:
    return level == 0 or blueprint.inheritance in ("joined", "concrete")


def _levels(blueprint: Blueprint) -> tuple[int, ...]:
    return (0, 1, 2, 3) if blueprint.inheritance else (0,)


def _declarative(blueprint: Blueprint, models: Models) -> None:
    as_dataclass = blueprint.style == "dataclass"
    bases = (MappedAsDataclass, DeclarativeBase) if as_dataclass else (DeclarativeBase,)
    root: Any = type("Root", bases, {"__module__": __name__})
    models.registry = root.registry
    if "parent" in blueprint.features:
        _map_parent(models)
    classes: list[Any] = []
    for level in _levels(blueprint):
        base = root if level == 0 else classes[{1: 0, 2: 1, 3: 0}[level]]
        body: dict[str, Any] = {"__annotations__": {}}
        if level == 0:
            body["__cache_config__"] = CacheConfig(ttl=300)
            body |= _hooks(blueprint, models.log)
        _fill_body(blueprint, level, body, as_dataclass)
        classes.append(_class(NAMES[level], (base,), body, as_dataclass))
    models.classes = tuple(classes)


def _map_parent(models: Models) -> None:
    table = Table("parent", models.registry.metadata, Column("id", Integer, primary_key=True))
    parent = _class("Parent", (object,), {})
    models.registry.map_imperatively(parent, table)
    setattr(_HERE, parent.__name__, parent)


def _fill_body(blueprint: Blueprint, level: int, body: dict[str, Any], dataclass: bool) -> None:
    def add(name: str, value: Any) -> None:
        body[name] = value
        body["__annotations__"][name] = Mapped[Any]

    more: dict[str, Any] = {"default": None} if dataclass else {}
    plain: dict[str, Any] = {"init": False} if dataclass else {}
    version = None
    if _has_table(blueprint, level):
        body["__tablename__"] = NAMES[level].lower()
        body["__table_args__"] = _table_arguments(blueprint, level)
        for name, column in _keys(blueprint).items():
            # No default: SQLAlchemy 2.1 finds no way to join a dataclass's key with a default.
            add(name, mapped_column(*_pieces(column), primary_key=True, autoincrement=False))
    if level == 0:
        if blueprint.inheritance in ("single", "joined"):
            add("kind", mapped_column(String, **more))
        for name, column in _extra_columns(blueprint).items():
            made = mapped_column(*_pieces(column), nullable=column.nullable, **more)
            version = made if name == "version" else version
            add(name, made)
        for feature, letter in _COMPOSITES.items():
            if feature in blueprint.features:
                cls = MutablePoint if feature == "mutable composite" else Point
                deferred = {"deferred": True} if feature == "deferred composite" else {}
                body[f"{letter}_point"] = composite(
                    cls, f"{letter}x", f"{letter}y", **deferred, **more
                )
                body["__annotations__"][f"{letter}_point"] = Mapped[cls]
        if "parent" in blueprint.features:
            body["parent"] = relationship("GeneratedParent", **more)
            body["__annotations__"]["parent"] = Mapped[Any]
        if "synonym" in blueprint.features:
            body["synonymous"] = synonym(blueprint.columns[0].name, **plain)
            if dataclass:
                body["__annotations__"]["synonymous"] = Mapped[Any]
    for plan in _own_columns(blueprint, level):
        column = column_of(plan)
        add(
            plan.name,
            mapped_column(
                *_pieces(column), nullable=plan.nullable, **property_settings(plan), **more
            ),
        )
    body["__mapper_args__"] = _mapper_arguments(blueprint, level, version)


def _pieces(column: Column[Any]) -> tuple[Any, ...]:
    return (column.name, column.type, *(ForeignKey(k._colspec) for k in column.foreign_keys))


def _class(name: str, bases: tuple[Any, ...], body: dict[str, Any], keywords: bool = False) -> Any:
    name = f"Generated{name}"
    body = {"__module__": __name__, "__qualname__": name, **body}
    return type(bases[0])(name, bases, body, **({"kw_only": True} if keywords else {}))


def _imperative(blueprint: Blueprint, models: Models) -> None:
    models.registry = registry()
    metadata = models.registry.metadata
    if "parent" in blueprint.features:
        _map_parent(models)
    classes: list[Any] = []
    tables: dict[int, Table] = {}
    for level in _levels(blueprint):
        up = {0: 0, 1: 0, 2: 1, 3: 0}[level]
        columns: dict[str, Column[Any]] = {}
        if _has_table(blueprint, level):
            columns |= _keys(blueprint)
        if level == 0:
            if blueprint.inheritance in ("single", "joined"):
                columns["kind"] = Column("kind", String)
            columns |= _extra_columns(blueprint)
        plans = {plan.name: column_of(plan) for plan in _own_columns(blueprint, level)}
        if _has_table(blueprint, level):
            columns |= plans
            tables[level] = Table(
                NAMES[level].lower(),
                metadata,
                *columns.values(),
                *_table_arguments(blueprint, level),
            )
        else:
            tables[level] = tables[0]
            for column in plans.values():
                tables[0].append_column(column)
        properties: dict[str, Any] = {
            plan.name: column_property(
                plans[plan.name],
                **{
                    key.replace("deferred_group", "group").replace("deferred_raise", "raise"): value
                    for key, value in property_settings(plan).items()
                },
            )
            for plan in _own_columns(blueprint, level)
        }
        if blueprint.inheritance == "joined" and level:
            for name in _keys(blueprint):
                inherited = sqlalchemy.inspect(classes[up]).get_property(name).columns
                properties[name] = [columns[name], *inherited]
        body: dict[str, Any] = {}
        if level == 0:
            body = {"__cache_config__": CacheConfig(ttl=300), **_hooks(blueprint, models.log)}
            properties |= _imperative_features(blueprint, columns)
        cls = _class(NAMES[level], (classes[up],) if level else (object,), body)
        models.registry.map_imperatively(
            cls,
            tables[level] if _has_table(blueprint, level) else None,
            properties=properties,
            inherits=classes[up] if level else None,
            **_mapper_arguments(blueprint, level, columns.get("version")),
        )
        classes.append(cls)
    models.classes = tuple(classes)


def _imperative_features(blueprint: Blueprint, columns: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for feature, letter in _COMPOSITES.items():
        if feature in blueprint.features:
            cls = MutablePoint if feature == "mutable composite" else Point
            deferred = {"deferred": True} if feature == "deferred composite" else {}
            pair = columns[f"{letter}x"], columns[f"{letter}y"]
            properties[f"{letter}_point"] = composite(cls, *pair, **deferred)
    if "parent" in blueprint.features:
        properties["parent"] = relationship("GeneratedParent")
    if "synonym" in blueprint.features:
        properties["synonymous"] = synonym(blueprint.columns[0].name)
    return properties


def _sqlmodel(blueprint: Blueprint, models: Models) -> None:
    models.registry = registry()
    meta: Any = type(SQLModel)
    root = meta("Root", (SQLModel,), {"__module__": __name__}, registry=models.registry)
    name = "GeneratedBase"
    columns = _keys(blueprint) | _extra_columns(blueprint)
    columns |= {plan.name: column_of(plan) for plan in blueprint.columns}
    body: dict[str, Any] = {
        "__module__": __name__,
        "__qualname__": name,
        "__tablename__": "base",
        "__cache_config__": CacheConfig(ttl=300),
        "__annotations__": dict.fromkeys(columns, Any),
        "model_config": {"ignored_types": (hybrid_property,)},
        **{key: Field(default=None, sa_column=column) for key, column in columns.items()},
        **_hooks(blueprint, models.log),
    }
    arguments = _mapper_arguments(blueprint, 0, columns.get("version"))
    if "synonym" in blueprint.features:
        arguments["properties"] = {"synonymous": synonym(blueprint.columns[0].name)}
    body["__mapper_args__"] = arguments
    if "private" in blueprint.features:
        body["_secret"] = PrivateAttr(default=7)
        body["__annotations__"] |= {"_secret": int}
    models.classes = (meta(name, (root,), body, table=True),)
