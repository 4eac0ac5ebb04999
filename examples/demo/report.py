"""What is printed: one table of reads, one of the proof, and what the numbers mean."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from examples.demo.reads import Pass
from examples.demo.writes import Proof

_NOTES = """\
[bold]What the numbers mean.[/] A read is one session.get() of a row with 8 columns; the time of \
opening and closing a session for every two reads is in it. Both ways ran in this process, in \
turns, over the same rows. A SQLite file inside the process is the [bold]hardest[/] database to \
be faster than: no network, no server, no other users. Times differ from machine to machine; the \
ratio and the statements saved are what to look at.{store}"""

_REDIS = " Here every hit is a round trip to Redis, against no round trip at all for SQLite."


def show_reads(console: Console, rows: list[tuple[str, Pass]]) -> None:
    """Print both ways side by side."""
    table = Table(
        title="Reads",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("pass", no_wrap=True)
    for name in (
        "reads", "hits", "SQL\nwithout", "SQL\nwith", "SQL\nsaved", "µs/read\nwithout",
        "µs/read\nwith", "times\nfaster",
    ):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    for name, each in rows:
        table.add_row(
            name,
            f"{each.cached.reads:,}",
            f"{each.hit_rate:.0%}",
            f"{each.plain.statements:,}",
            f"{each.cached.statements:,}",
            f"{each.plain.statements - each.cached.statements:,}",
            f"{each.plain.microseconds:.0f}",
            f"{each.cached.microseconds:.0f}",
            f"{each.plain.seconds / each.cached.seconds:.1f}",
        )
    console.print(table)


def show_proof(console: Console, proof: Proof) -> None:
    """Print whether every write was seen."""
    table = Table(
        title="Was every write seen?", title_justify="left", title_style="bold", box=SIMPLE_HEAD
    )
    table.add_column("")
    table.add_column("count", justify="right")
    table.add_column("must be", justify="right")
    for name, count, wanted in (
        ("writes committed (flush, UPDATE statement, savepoint)", proof.writes, ""),
        ("re-reads: a fresh session, and a second engine", proof.rereads, ""),
        ("of these, answered from the cache", proof.from_cache, "> 0"),
        ("stale re-reads (compared with the file itself)", proof.stale, "0"),
        ("control: writes behind the library's back", proof.control, ""),
        (
            "control: of these, found stale by the same check",
            proof.control_stale,
            str(proof.control),
        ),
    ):
        table.add_row(name, f"{count:,}", wanted)
    console.print(table)
    verdict = "[green]yes: no stale read[/]" if proof.holds else "[bold red]NO[/]"
    console.print(f"Every write seen: {verdict}\n")


def show_notes(console: Console, *, redis: bool) -> None:
    """Print what may be concluded from the tables, and what may not."""
    console.print(_NOTES.format(store=_REDIS if redis else ""), highlight=False)
