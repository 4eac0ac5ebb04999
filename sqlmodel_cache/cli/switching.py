"""`off` and `on`: stop reads from the cache in every process of a deployment, and allow them."""

from __future__ import annotations

from typing import Annotated

import typer

from sqlmodel_cache import SQLModelCache, _state
from sqlmodel_cache.cli import show
from sqlmodel_cache.cli.target import Json, Prefix, Url, configure, load_model, problems

Models = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL]...", help="As module:Class; none: everything."),
]


def off(
    models: Models = None, url: Url = None, prefix: Prefix = None, as_json: Json = False
) -> None:
    """Stop reads from the cache in every process, within seconds. Writes go on invalidating."""
    with problems():
        classes = [load_model(model) for model in models or ()]
        configure(url, prefix)
        SQLModelCache.switch_off(*classes)
        _tell(as_json)


def on(
    models: Models = None, url: Url = None, prefix: Prefix = None, as_json: Json = False
) -> None:
    """Take `off` back; what was off begins empty. Without a model: all that is off."""
    with problems():
        classes = [load_model(model) for model in models or ()]
        configure(url, prefix)
        SQLModelCache.switch_on(*classes)
        _tell(as_json)


def _tell(as_json: bool) -> None:
    names = sorted(_state.active.switch.off)
    if as_json:
        show.print_json({"off": names})
    elif not names:
        typer.echo("Nothing is switched off.")
    else:
        shown = "everything" if "*" in names else ", ".join(names)
        typer.echo(f"Switched off: {shown}. Each process follows within seconds, at its next read.")
