"""Counts as records: of one model, of a whole cache, of several processes together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final

from sqlmodel_cache.latency import Latency, add_up

_COUNTS: Final = (
    *("hits", "misses", "fills", "invalidations", "errors", "lost"),
    *("shadow_same", "shadow_different", "shadow_unsure", "verified", "inconsistent"),
)

# Misses that were timed before anybody is told what the cache saves: one alone proves nothing.
_ENOUGH: Final = 20

# A breaker of several processes is as bad as the worst of them.
_WORST_FIRST: Final = ("open", "half-open", "closed")


@dataclass(frozen=True, slots=True)
class ModelStats:
    """Counts of one model since `configure()`.

    Attributes:
        hits: reads that were answered from the store.
        misses: reads for which the store had no usable row.
        fills: rows stored.
        invalidations: rows and whole models forgotten, by commits and by explicit calls.
        errors: operations that the store did not answer, and entries that could not be read.
        lost: writes that could not be invalidated, each logged as an error.
        shadow_same: comparisons of `mode="shadow"` in which store and database agreed.
        shadow_different: those in which they did not, and no commit explains it.
        shadow_unsure: those that could not be decided.
        verified: hits that `verify` checked.
        inconsistent: those of them that were wrong.
        differing: names of the columns that differed in either, with counts.
        bypasses: reads that did not ask the store, by the value of their `Bypass`.
        latencies: durations in seconds by `Step`, of the steps that were met.
    """

    hits: int = 0
    misses: int = 0
    fills: int = 0
    invalidations: int = 0
    errors: int = 0
    lost: int = 0
    shadow_same: int = 0
    shadow_different: int = 0
    shadow_unsure: int = 0
    verified: int = 0
    inconsistent: int = 0
    differing: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    bypasses: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    latencies: Mapping[str, Latency] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def reads(self) -> int:
        """Reads that asked the store and got an answer: hits and misses."""
        return self.hits + self.misses

    @property
    def comparisons(self) -> tuple[int, ...]:
        """The counts of `mode="shadow"` (same, different, unsure) and `verify`."""
        shadow = (self.shadow_same, self.shadow_different, self.shadow_unsure)
        return (*shadow, self.verified, self.inconsistent)

    @property
    def hit_rate(self) -> float | None:
        """Share of `reads` that were hits, 0 to 1; None before the first."""
        return self.hits / self.reads if self.reads else None

    @property
    def saved_seconds(self) -> float | None:
        """Seconds that the cache saved by now; negative: that it cost.

        What the reads would have taken by the measured time of the database, less what hits,
        misses, failed lookups, fences and releases did take. A commit that touches several
        models is charged to each. None until a hit or miss and a database read were timed.
        """
        database = self._time("database")
        if not database.count or not self.reads:
            return None
        if self.hits and not self._time("hit").count:
            return None
        spent = self.hits * self._time("hit").mean + self.misses * self._time("miss").mean
        spent += sum(self._time(step).total for step in ("failure", "fence", "release"))
        return self.reads * database.mean - spent

    @property
    def saved_ms_per_1000(self) -> float | None:
        """Milliseconds saved for each 1,000 reads; negative: lost. None: not known yet."""
        saved = self.saved_seconds
        return None if saved is None else saved / self._judged() * 1e6

    @property
    def settled(self) -> bool:
        """Whether enough was timed for a verdict."""
        return self._time("database").count >= _ENOUGH and self.saved_ms_per_1000 is not None

    @property
    def verdict(self) -> str:
        """The line that decides whether a model should be cached."""
        saved = self.saved_ms_per_1000
        if saved is None or not self.settled:
            timed = min(self._time("database").count, _ENOUGH)
            return f"not known yet: {timed} of {_ENOUGH} misses were timed"
        return f"{'saves' if saved >= 0 else 'costs'} {abs(saved):,.0f} ms per 1,000 reads"

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain dicts, strings and numbers: for JSON, a route, a log."""
        plain = {field.name: _plain(getattr(self, field.name)) for field in fields(self)}
        worked_out = ("hit_rate", "saved_ms_per_1000", "settled")
        return plain | {name: getattr(self, name) for name in worked_out}

    def _judged(self) -> int:
        """Return the number of reads that `saved_seconds` is about."""
        return self.reads

    def _time(self, step: str) -> Latency:
        return self.latencies.get(step) or Latency()


@dataclass(frozen=True, slots=True)
class LocalStats:
    """The copies that a process keeps of rows of models with a `local_ttl`.

    Attributes:
        hits: reads answered by a copy; they are among the models' own.
        entries: copies kept.
        bytes: what they take, as an estimate.
        emptied: how often all copies were dropped because no messages came.
        listening: copies may be used at the moment.
        delay: how long the stream of messages took to answer, asked once a second: the answer
            comes behind every message sent before it, so a message takes no longer.
    """

    hits: int = 0
    entries: int = 0
    bytes: int = 0
    emptied: int = 0
    listening: bool = False
    delay: Latency = field(default_factory=Latency)

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain dicts and numbers."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Stats(ModelStats):
    """Counts of all models since `configure()`, and the state of the store.

    Attributes:
        models: the counts of each model, by its name; of its queries as "Hero (queries)".
        breaker: "closed": the store answers; "open": it is left alone; "half-open": it is tried.
        queue: rows and parts of models that the store still has to forget.
        local: None where no copies are kept in the process.
    """

    models: Mapping[str, ModelStats] = field(default_factory=lambda: MappingProxyType({}))
    breaker: str = "closed"
    queue: int = 0
    local: LocalStats | None = None

    @property
    def saved_seconds(self) -> float | None:
        """Seconds saved by all models of which it is known; None if it is of none."""
        known = [one.saved_seconds for one in self._known()]
        return sum(one or 0.0 for one in known) if known else None

    def _judged(self) -> int:
        return sum(one.reads for one in self._known())

    def _known(self) -> list[ModelStats]:
        return [one for one in self.models.values() if one.saved_seconds is not None]


def add_up_models(every: Iterable[ModelStats]) -> dict[str, Any]:
    """Return the fields of a `ModelStats` that counts what all of `every` do."""
    every = list(every)
    steps: dict[str, list[Latency]] = {}
    for one in every:
        for step, latency in one.latencies.items():
            steps.setdefault(step, []).append(latency)
    latencies = {step: add_up(each) for step, each in steps.items()}
    return {
        **{name: sum(getattr(one, name) for one in every) for name in _COUNTS},
        "bypasses": _sum(one.bypasses for one in every),
        "differing": _sum(one.differing for one in every),
        "latencies": MappingProxyType(latencies),
    }


def _sum(every: Iterable[Mapping[str, int]]) -> Mapping[str, int]:
    total: dict[str, int] = {}
    for counts in every:
        for name, number in counts.items():
            total[name] = total.get(name, 0) + number
    return MappingProxyType(total)


def merge(processes: Iterable[Stats]) -> Stats:
    """Return the counts of several processes as if they were one."""
    processes = list(processes)
    by_name: dict[str, list[ModelStats]] = {}
    for process in processes:
        for name, model in process.models.items():
            by_name.setdefault(name, []).append(model)
    models = {name: ModelStats(**add_up_models(each)) for name, each in sorted(by_name.items())}
    states = {process.breaker for process in processes}
    return Stats(
        **add_up_models(processes),
        models=MappingProxyType(models),
        breaker=next((state for state in _WORST_FIRST if state in states), "closed"),
        queue=sum(process.queue for process in processes),
        local=_merge_local([one.local for one in processes if one.local is not None]),
    )


def _merge_local(every: list[LocalStats]) -> LocalStats | None:
    if not every:
        return None
    return LocalStats(
        hits=sum(one.hits for one in every),
        entries=sum(one.entries for one in every),
        bytes=sum(one.bytes for one in every),
        emptied=sum(one.emptied for one in every),
        listening=all(one.listening for one in every),
        delay=add_up(one.delay for one in every),
    )


def _plain(value: object) -> object:
    if isinstance(value, ModelStats | LocalStats | Latency):
        return value.as_dict()
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return value
