"""One version of an application, as a process: it does what its standard input says, line by line.

Run as a file, so that it imports whatever `sqlmodel_cache` its path has. Its one argument is JSON:
`database`, `redis`, `prefix`, `table`, and `columns` (attribute -> [kind, name of the column]).
Each line is JSON too: [what, arguments...]; each answer is a line.
"""

from __future__ import annotations

import enum
import json
import sys
from typing import Any

from sqlalchemy import Enum, Float, Integer, Numeric, String, create_engine, event, update
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from sqlmodel_cache import SQLModelCache, cached


class Color(enum.Enum):
    """What a column of text is to the version that has an Enum."""

    red = "red"
    blue = "blue"


KINDS: dict[str, Any] = {
    "int": Integer(),
    "str": String(200),
    "decimal": Numeric(10, 2),
    "float": Numeric(10, 2, asdecimal=False),
    "double": Float(),
    "color": Enum(Color, native_enum=False, create_constraint=False),
}


class Base(DeclarativeBase):
    """Base of the one model."""


def build(table: str, columns: dict[str, list[str]]) -> Any:
    """Return the model as this version has it."""
    body: dict[str, Any] = {"__tablename__": table, "__module__": "app.models"}
    for attribute, (kind, column) in columns.items():
        body[attribute] = mapped_column(column, KINDS[kind], primary_key=attribute == "id")
    return cached(negative_ttl=60)(type("Hero", (Base,), body))


def value_of(model: Any, attribute: str, value: Any) -> Any:
    """Return a value as the attribute takes it."""
    return Color(value) if isinstance(getattr(model, attribute).type, Enum) else value


def main() -> None:
    """Serve until the input ends."""
    settings = json.loads(sys.argv[1])
    model = build(settings["table"], settings["columns"])
    engine = create_engine(settings["database"])
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    SQLModelCache.configure(settings["redis"], key_prefix=settings["prefix"])
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        sent.clear()
        with Session(engine) as session:
            answer = act(session, model, what, arguments)
        hit = not any(each.startswith("SELECT") for each in sent)
        sys.stdout.write(json.dumps({"answer": answer, "hit": hit}) + "\n")
        sys.stdout.flush()


def act(session: Session, model: Any, what: str, arguments: list[Any]) -> Any:
    """Carry out one line."""
    if what == "get":
        found = session.get(model, arguments[0])
        names = [prop.key for prop in model.__mapper__.column_attrs]
        return found and {name: repr(getattr(found, name)) for name in names}
    if what == "insert":
        session.add(model(**arguments[0]))
    elif what == "set":
        pk, attribute, value = arguments
        setattr(session.get(model, pk), attribute, value_of(model, attribute, value))
    elif what == "bulk":
        attribute, value = arguments
        session.execute(update(model).values({attribute: value}))
    elif what == "release":
        told = SQLModelCache.explain(session, model, arguments[0])
        return str(told.entry and told.entry.filled_by)
    session.commit()
    return None


if __name__ == "__main__":
    main()
