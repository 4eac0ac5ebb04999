"""Teams and heroes whose queries are cached, for every interleaving; what a session answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, ForeignKey, MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqlmodel_cache import cached


@dataclass(frozen=True)
class Schema:
    """One set of mapped classes."""

    base: Any
    Team: Any
    Hero: Any


class Base(DeclarativeBase):
    """Base of the models below."""

    metadata = MetaData()


@cached(queries=True)
class Team(Base):
    """What heroes belong to."""

    __tablename__ = "team_0"
    id: Mapped[int] = mapped_column(primary_key=True)
    rank: Mapped[int | None] = mapped_column(index=True)
    name: Mapped[str]


@cached(queries=True)
class Hero(Base):
    """Indexed columns, one that is not, and one that changes by itself."""

    __tablename__ = "hero_0"
    id: Mapped[int] = mapped_column(primary_key=True)
    team_id: Mapped[int | None] = mapped_column(ForeignKey("team_0.id"))
    rank: Mapped[int | None] = mapped_column(index=True)
    flag: Mapped[bool] = mapped_column(default=False)
    code: Mapped[str] = mapped_column(index=True, default="a")
    size: Mapped[int] = mapped_column(default=0, onupdate=lambda: 0)
    team = relationship(Team)


SCHEMAS = [Schema(Base, Team, Hero)]


def answer(session: Session, statement: Any, **options: Any) -> list[tuple[Any, ...]]:
    """Return what a statement finds, instances as the values of their columns."""
    return [
        tuple(map(_shown, row)) for row in session.execute(statement, execution_options=options)
    ]


def _shown(value: Any) -> Any:
    table = getattr(type(value), "__table__", None)
    if table is None:
        return value
    return (type(value).__name__, *(getattr(value, column.key) for column in table.columns))


def empty(schema: Schema, engine: Engine) -> None:
    """Remove every row, unseen by the library; then put a few there."""
    team, hero = schema.Team.__tablename__, schema.Hero.__tablename__
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        for statement in (
            f"DELETE FROM {hero}",
            f"DELETE FROM {team}",
            f"INSERT INTO {team} (id, rank, name) VALUES (1, 0, 'x'), (2, 1, 'y')",
            f"INSERT INTO {hero} (id, team_id, rank, flag, code, size) VALUES"
            " (1, 1, 0, 0, 'a', 0), (2, 1, 1, 1, 'b', 0), (3, 2, NULL, 0, 'A', 0),"
            " (4, NULL, 2, 1, 'a', 0)",
        ):
            cursor.execute(statement)
        connection.driver_connection.commit()  # type: ignore[union-attr]
    finally:
        connection.close()
