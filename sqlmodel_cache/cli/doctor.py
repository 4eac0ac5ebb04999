"""`doctor`: what is wrong with a store, a deployment or its models, each with a remedy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Annotated, Any, Literal, NamedTuple

import typer

from sqlmodel_cache import clock
from sqlmodel_cache.causes import CAUSES
from sqlmodel_cache.cli import show
from sqlmodel_cache.cli.fleet import NOBODY
from sqlmodel_cache.cli.target import (
    DEFAULT_PREFIX,
    Json,
    Prefix,
    Url,
    load_module,
    opened_pair,
    problems,
)
from sqlmodel_cache.errors import CacheError
from sqlmodel_cache.events import Bypass
from sqlmodel_cache.keys import local_channel, secrets_board
from sqlmodel_cache.orm.model.plan import SURPRISING, plans
from sqlmodel_cache.protocol.ops import Switches
from sqlmodel_cache.stats import ModelStats, Stats, merge
from sqlmodel_cache.transport.bulletin import collect
from sqlmodel_cache.transport.failures import explain, is_store_failure

SLOW = 0.005  # seconds: a round trip that a database across the room would beat
SKEW = 1.0  # seconds
ENOUGH = 100  # reads, before a model is judged


class Finding(NamedTuple):
    """One line of the report."""

    level: Literal["ok", "note", "problem"]
    what: str
    remedy: str = ""


def doctor(
    modules: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODULE]...", help="Modules whose models are examined too."),
    ] = None,
    url: Url = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Examine the store, the processes and the models; exit code 1 if there is a problem."""
    with problems(), opened_pair(url) as pair:
        for module in modules or ():
            load_module(module)
        findings = list(_examine(pair, prefix or DEFAULT_PREFIX, bool(modules)))
    if as_json:
        show.print_json([finding._asdict() for finding in findings])
    else:
        lines = ([f"{one.level}: {one.what}", one.remedy] for one in findings)
        made = show.table("", ("finding", "remedy"), lines)
        made.columns[1].justify = "left"
        show.console().print(made)
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)


def _examine(pair: Any, prefix: str, with_models: bool) -> Iterator[Finding]:
    store = pair.sync
    try:
        yield _latency(store)
    except Exception as error:
        if not (is_store_failure(error) or isinstance(error, CacheError)):
            raise
        yield Finding(
            "problem",
            f"the store cannot be used: {explain(error)}",
            "check host, port, password, TLS, and that Redis runs",
        )
        return
    yield from _server(store)
    yield _scripts(store)
    yield _clock(store)
    yield from _secrets(store, prefix)
    yield from _processes(store, prefix)
    if with_models:
        yield from _blocked()
        yield from _copies(pair, prefix)


def _refused(error: Exception) -> bool:
    """Tell whether the server answered, and said no."""
    return type(error).__name__ in ("ResponseError", "NoPermissionError")


def _latency(store: Any) -> Finding:
    times = []
    for _ in range(21):
        begun = clock.real()
        store.execute(("PING",))
        times.append(clock.real() - begun)
    found = median(times[1:])
    what = f"the store answers in {show.duration(found)}"
    if found > SLOW:
        return Finding("problem", what, "put it next to the application: a hit is one round trip")
    return Finding("ok", what)


def _info(store: Any) -> dict[str, str]:
    try:
        (reply,) = store.execute(("INFO",))
    except Exception as error:
        if not _refused(error):
            raise
        return {}
    text = reply if isinstance(reply, str) else reply.decode("utf-8", "replace")
    lines = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, found, value in lines if found}


def _server(store: Any) -> Iterator[Finding]:
    info = _info(store)
    if not info:
        yield Finding("note", "this account may not ask INFO", "allow it: ACL SETUSER ... +info")
        return
    valkey = info.get("valkey_version")
    version = valkey or info.get("redis_version", "0")
    name = f"{'Valkey' if valkey else 'Redis'} {version}"
    old = int(version.partition(".")[0]) < 5
    said = f"{name}, RESP{_protocol(store)}"
    yield Finding("problem", said, "use 5 or later") if old else Finding("ok", said)
    if info.get("role") == "slave":
        yield Finding("problem", "this server is a replica", "give the URL of the primary")
    if info.get("cluster_enabled") == "1":
        yield Finding(
            "problem",
            "this server is one node of a Cluster",
            "pass RedisSyncTransport(RedisCluster(...)) to configure()",
        )
    if info.get("loading") == "1":
        yield Finding("problem", "the server is loading its data", "wait until it has")
    yield from _memory(info)


def _protocol(store: Any) -> int:
    """Return the version of the protocol that the connection speaks; 2 if it cannot be asked."""
    try:
        (reply,) = store.execute(("HELLO",))
    except Exception as error:
        if not _refused(error):
            raise
        return 2
    parts = [part for pair in reply.items() for part in pair] if type(reply) is dict else reply
    return int(parts[parts.index(b"proto") + 1])


def _memory(info: dict[str, str]) -> Iterator[Finding]:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    policy = info.get("maxmemory_policy", "unknown")
    evicted = int(info.get("evicted_keys", 0))
    said = f"{used / 2**20:,.1f} MiB used of {limit / 2**20:,.1f} MiB, policy {policy}"
    if not limit:
        yield Finding(
            "note",
            f"{used / 2**20:,.1f} MiB used, without a limit (policy {policy})",
            "set maxmemory, or the server takes all there is",
        )
    elif policy == "noeviction":
        full = used > 0.9 * limit
        yield Finding(
            "problem" if full else "ok",
            said,
            "nothing more will be stored: raise maxmemory or shorten TTLs" if full else "",
        )
    else:
        yield Finding(
            "note",
            said,
            "a fence may be evicted while its writer commits: noeviction rules that out",
        )
    if evicted:
        yield Finding("note", f"{evicted:,} keys were evicted", "raise maxmemory or shorten TTLs")


def _scripts(store: Any) -> Finding:
    try:
        store.execute(("EVAL", "return 1", 0))
    except Exception as error:
        if not _refused(error):
            raise
        return Finding("problem", "this account may run no scripts", "ACL SETUSER ... +@scripting")
    return Finding("ok", "scripts run")


def _clock(store: Any) -> Finding:
    (reply,) = store.execute(("TIME",))
    skew = abs(int(reply[0]) + int(reply[1]) / 1e6 - time.time())
    if skew > SKEW:
        return Finding(
            "note",
            f"the clocks of this host and of the store differ by {skew:.1f} s",
            "run NTP: ages that are shown, refresh_ahead and stale_ttl go by these clocks",
        )
    return Finding("ok", "the clocks of this host and of the store agree")


def _secrets(store: Any, prefix: str) -> Iterator[Finding]:
    try:
        known: frozenset[str] = store.perform(Switches(secrets_board(prefix)))
    except Exception as error:
        if not _refused(error):
            raise
        return
    if len(known) > 1:
        yield Finding(
            "problem",
            f"keys of models with hash_keys are hidden by {len(known)} secrets:"
            f" {', '.join(sorted(known))}",
            "configure one key_secret everywhere; when no process has another one, call"
            " SQLModelCache.purge() for these models",
        )
    elif known:
        yield Finding("ok", "all processes hide keys by one secret")


def _processes(store: Any, prefix: str) -> Iterator[Finding]:
    reports = collect(store.execute, prefix)
    if not reports:
        yield Finding("note", "nothing is known of the processes", NOBODY)
        return
    total = merge(report.stats for report in reports)
    yield Finding("ok", f"{len(reports)} processes publish their counts")
    open_ = [report for report in reports if report.stats.breaker != "closed"]
    if open_:
        where = ", ".join(f"{report.pid} on {report.host}" for report in open_)
        yield Finding(
            "problem", f"the store is left alone by process {where}", "look at its network"
        )
    if total.queue:
        yield Finding(
            "problem", f"{total.queue} invalidations wait for the store", "look at the store"
        )
    for name, model in total.models.items():
        yield from _judge(name, model)
    yield from _unattributed(total)


def _judge(name: str, model: ModelStats) -> Iterator[Finding]:
    if model.lost:
        yield Finding(
            "problem",
            f"{name}: {model.lost:,} writes could not be invalidated",
            "see the log for why; configure a URL, which every session can reach",
        )
    asked = model.reads + model.errors
    if model.errors > 0.01 * max(asked, ENOUGH):
        yield Finding(
            "problem", f"{name}: {model.errors:,} errors", "see the log; look at the store"
        )
    saved = model.saved_ms_per_1000
    if saved is not None and saved < 0 and model.settled and model.reads >= ENOUGH:
        yield Finding(
            "problem",
            f"{name}: {model.verdict}, hit rate {show.share(model.hit_rate)}",
            "a longer ttl, or CacheConfig(enabled=False)",
        )
    for reason, number in model.bypasses.items():
        if number > max(model.reads, ENOUGH):
            cause = CAUSES[Bypass(reason)] if reason in set(Bypass) else None
            yield Finding(
                "note",
                f"{name}: {number:,} reads did not use the cache ({reason})",
                cause.remedy if cause is not None else "",
            )


def _unattributed(total: Stats) -> Iterator[Finding]:
    rest = total.lost - sum(model.lost for model in total.models.values())
    if rest:
        yield Finding("problem", f"{rest:,} invalidations were never taken by the store", "clear")


def _blocked() -> Iterator[Finding]:
    for plan in plans():
        if plan.blocked in SURPRISING:
            cause = CAUSES[plan.blocked]
            yield Finding("problem", f"{plan.name} is never cached: {cause.why}", cause.remedy)


def _copies(pair: Any, prefix: str) -> Iterator[Finding]:
    """Try what models with copies in the process need: a message that names nothing."""
    names = [plan.name for plan in plans() if plan.config.enabled and plan.config.local_ttl]
    if not names:
        return
    channel = local_channel(prefix)
    denied = []
    with pair.listener() as client, client.pubsub() as heard:
        for command, attempt in (
            ("publish", lambda: client.publish(channel, "")),
            ("subscribe", lambda: (heard.subscribe(channel), heard.get_message(timeout=1))),
        ):
            try:
                attempt()
            except Exception as error:
                if not _refused(error):
                    raise
                denied.append(command)
    said = f"{', '.join(names)}: copies in the process"
    if denied:
        yield Finding(
            "problem",
            f"{said}, and this account may not {' or '.join(denied)}",
            f"ACL SETUSER ... &{prefix}:* +publish +subscribe +ping",
        )
    else:
        yield Finding("ok", f"{said}; messages about them can be sent and heard")
