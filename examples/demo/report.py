"""What is printed: tables of reads, of the proof, of several processes, and what they mean."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from examples.demo.reads import Pass
from examples.demo.writes import Proof

_NOTES = """\
[bold]What the numbers mean.[/] A read is one session.get() of a row with 8 columns; the time of \
opening and closing a session for every two reads is in it. Both ways ran in this process, in \
turns, over the same rows; a speed of 6 x is a sixth of the time. SQL counts statements. A SQLite \
file inside the process is the [bold]hardest[/] database to be faster than: no network, no server, \
no other users. Times differ from machine to machine; look at the speed, and at the SQL that was \
not sent.{store}"""

_STALE = """\
[bold]What stale means.[/] Each row has one process that writes it. When its commit() has \
returned, the process notes the row's number where all can see it. Whoever looks there, then \
reads the row and gets a smaller number, has read stale. The control keeps bare numbers, opens no \
session for a hit and makes no object: it reads more in the same time."""

_REDIS = " Here every hit is a round trip to Redis, against no round trip at all for SQLite."


def show_reads(console: Console, rows: list[tuple[str, Pass]]) -> None:
    """Print both ways side by side."""
    table = _table(console, "Reads: the same ones without the cache and with it")
    table.add_column("what was read", no_wrap=True)
    for name in (
        "reads", "from\ncache", "SQL\nwithout", "SQL\nwith", "µs/read\nwithout",
        "µs/read\nwith", "speed",
    ):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    for name, each in rows:
        table.add_row(
            name,
            f"{each.cached.reads:,}",
            f"{each.hit_rate:.0%}",
            f"{each.plain.statements:,}",
            f"{each.cached.statements:,}",
            f"{each.plain.microseconds:.0f}",
            f"{each.cached.microseconds:.0f}",
            f"{each.plain.seconds / each.cached.seconds:.1f} x",
        )
    console.print(table)


def show_proof(console: Console, proof: Proof) -> None:
    """Print whether a stale value was read after any write."""
    table = _table(console, "Writes: was an old value read after any of them?")
    table.add_column("")
    table.add_column("count", justify="right")
    table.add_column("must be", justify="right")
    for name, count, wanted in (
        ("commits that changed a row (by flush, UPDATE, savepoint)", proof.writes, ""),
        ("reads of that row right after its commit, by two engines", proof.rereads, ""),
        ("  answered from the cache", proof.from_cache, "> 0"),
        ("  stale: older than what the database file says", proof.stale, "0"),
        ("does this check notice? rows changed where the library cannot see it", proof.control, ""),
        ("  stale: noticed by the same check", proof.control_stale, str(proof.control)),
    ):
        table.add_row(name, f"{count:,}", wanted)
    console.print(table)
    if proof.stale:
        words = (
            f"[bold red]{proof.stale:,} of {proof.rereads:,} reads after a commit were stale.[/]"
        )
    elif not proof.holds:
        words = "[bold red]Nothing is proven: the check did not notice what it had to.[/]"
    else:
        words = f"[green]None of the {proof.rereads:,} reads after a commit was stale.[/]"
    console.print(f"{words}\n")


def show_workers(console: Console, each: list[dict[str, int]]) -> None:
    """Print what each process did and saw."""
    table = _table(
        console, f"{len(each)} processes read and write the same rows, through this library"
    )
    _worker_columns(table)
    for number, counts in enumerate(each, start=1):
        table.add_row(str(number), *_numbers(counts))
    table.add_section()
    table.add_row("all", *_numbers(_sum(each)))
    console.print(table)


def show_verdict(
    console: Console, each: list[dict[str, int]], control: list[dict[str, int]]
) -> bool:
    """Print the control and what follows; True if nothing was stale, by a check that can see."""
    table = _table(console, "Control: the same through a cache that deletes after the commit")
    _worker_columns(table)
    table.add_row("all", *_numbers(_sum(control)))
    console.print(table)
    found, seen = _sum(each), _sum(control)["stale"]
    if found["stale"]:
        words = f"[bold red]{found['stale']:,} of {found['reads']:,} reads were stale.[/]"
    elif not seen:
        words = (
            "[bold red]Nothing is proven: this run's eye is blind.[/] The control has stale reads,"
            " and none was noticed. Give it longer: make demo WORKERS=4 SECONDS=20"
        )
    elif not (found["hits"] and found["near"]):
        words = "[bold red]Nothing is proven: no read came from the cache, near a commit.[/]"
    else:
        words = (
            f"[green]None of {found['reads']:,} reads was stale[/], {found['near']:,} of them less"
            " than 10 ms after a commit to the same row."
            f" The same check noticed {seen:,} stale reads of the control."
        )
    console.print(f"{words}\n", highlight=False)
    console.print(_STALE, highlight=False)
    return bool(seen and found["hits"] and found["near"]) and not found["stale"]


def _worker_columns(table: Table) -> None:
    for name in (
        "process", "reads", "from the\ncache", "< 10 ms after\na commit to it", "commits",
        "stale\nreads",
    ):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)


def _numbers(counts: dict[str, int]) -> list[str]:
    order = ("reads", "hits", "near", "commits", "stale")
    return [f"{counts[name]:,}" for name in order]


def _sum(each: list[dict[str, int]]) -> dict[str, int]:
    return {name: sum(one[name] for one in each) for name in each[0]}


def _table(console: Console, title: str) -> Table:
    """Print the title, which a narrow table would break, and return an empty table."""
    console.print(title, style="bold", highlight=False)
    return Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))


def show_notes(console: Console, *, redis: bool) -> None:
    """Print what may be concluded from the tables, and what may not."""
    console.print(_NOTES.format(store=_REDIS if redis else ""), highlight=False)
