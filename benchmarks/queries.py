"""Q1 to Q3: cached queries, what a list costs, and what commits pay for them. No targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from sqlmodel import Session, func, select

from benchmarks.hooks import configured, without
from benchmarks.place import Place
from benchmarks.report import Measured, Skipped, sides
from benchmarks.rows import TEAM, CachedRow, ListedRow
from benchmarks.timing import Case, compare, ratio

RESULTS = (10, 1_000, 100_000)
_ASKED = {"cache": True}


def measure(place: Place) -> Iterator[Measured | Skipped]:
    """Yield lists and counts against PostgreSQL, then commits with and without queries."""
    if place.postgres is None or place.redis_url is None:
        yield Skipped("Q1", "no PostgreSQL or no Redis")
        return
    team = select(ListedRow).where(ListedRow.team == 3).order_by(ListedRow.name)
    amount = select(func.count()).select_from(ListedRow).where(ListedRow.team == 3)
    yield _read(place, place.redis_url, "Q1a", f"a list of {TEAM} rows", team)
    yield _read(place, place.redis_url, "Q1b", "a count", amount)
    for number in RESULTS:
        yield _invalidation(place, place.redis_url, number)
    yield _commit(place, place.redis_url)


def _read(place: Place, url: str, number: str, what: str, statement: Any) -> Measured:
    def ask(**options: Any) -> Callable[[], object]:
        def run() -> object:
            with Session(place.postgres) as session:
                return session.exec(statement, execution_options=options).all()

        return run

    with configured(url):
        for _ in range(3):
            ask(**_ASKED)()
        hit, plain = compare(
            place.pace, Case("hit", ask(**_ASKED)), Case("without", ask(), around=without)
        )
    said = f"{what} from Redis / from PostgreSQL without the library, a session each"
    return Measured(number, said, ratio(hit, plain), sides(hit, plain), None)


def _change(session: Session, row: Any) -> Callable[[], None]:
    score = count(1)

    def change() -> None:
        row.score = next(score)
        session.commit()

    return change


def _invalidation(place: Place, url: str, number: int) -> Measured:
    """Compare a commit among `number` results that name the table's stamps with one among none."""
    statement = select(ListedRow.id, ListedRow.score).where(ListedRow.team == 3)
    with (
        configured(url),
        place.client() as client,
        Session(place.postgres, expire_on_commit=False) as session,
    ):
        with Session(place.postgres) as reader:
            reader.exec(statement, execution_options=_ASKED).all()
        (key,) = [k for k in client.scan_iter("*~!r:*", count=10_000) if b"#" not in k][:1]
        value: Any = client.get(key)

        def fill() -> None:
            with client.pipeline(transaction=False) as pipeline:
                for position in range(number):
                    pipeline.set(key + b"#%d" % position, value)
                    if position % 1_000 == 999:
                        pipeline.execute()
                pipeline.execute()

        change = _change(session, session.get(ListedRow, 61))
        (before,) = compare(place.pace, Case("none", change))
        fill()
        (after,) = compare(place.pace, Case("many", change))
        for each in client.scan_iter("*~!r:*#*", count=10_000):
            client.unlink(each)
    what = f"commit of a row among {number:,} results that use its column / among none"
    return Measured("Q2", what, ratio(after, before), sides(after, before), None)


def _commit(place: Place, url: str) -> Measured:
    with configured(url), Session(place.postgres, expire_on_commit=False) as session:
        asked, plain = compare(
            place.pace,
            Case("queries", _change(session, session.get(ListedRow, 61))),
            Case("rows", _change(session, session.get(CachedRow, 61))),
        )
    what = "commit of one changed row of a model with queries / with rows only, Redis"
    return Measured("Q3", what, ratio(asked, plain), sides(asked, plain), None)
