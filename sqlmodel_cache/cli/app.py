"""The command `sqlmodel-cache`, put together."""

from __future__ import annotations

import typer

from sqlmodel_cache.cli import doctor, entries, fleet, switching

app = typer.Typer(
    help="Look after the cache of a deployment. Exit codes: 0 all is well, 1 a problem was found,"
    " 2 the command cannot be understood.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(fleet.stats)
app.command()(fleet.watch)
app.command()(doctor.doctor)
app.command()(entries.models)
app.command("inspect")(entries.inspect_entry)
app.command()(entries.warm)
app.command()(entries.invalidate)
app.command()(entries.clear)
app.command()(entries.purge)
app.command()(switching.off)
app.command()(switching.on)
